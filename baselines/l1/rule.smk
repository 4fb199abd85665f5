use rule score as score_l1 with:
    wildcard_constraints:
        variant=variants_of("l1"),
