use rule score as score_cp with:
    wildcard_constraints:
        variant=variants_of("cp"),
    threads: 4
