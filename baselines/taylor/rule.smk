use rule score as score_taylor with:
    wildcard_constraints:
        variant=variants_of("taylor"),
    threads: 4
