use rule score as score_lamp with:
    wildcard_constraints:
        variant=variants_of("lamp"),
