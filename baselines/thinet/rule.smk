use rule score as score_thinet with:
    wildcard_constraints:
        variant=variants_of("thinet"),
    threads: 4
