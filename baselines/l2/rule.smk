use rule score as score_l2 with:
    wildcard_constraints:
        variant=variants_of("l2"),
