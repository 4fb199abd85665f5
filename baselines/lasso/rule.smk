use rule score as score_lasso with:
    wildcard_constraints:
        variant=variants_of("lasso"),
    threads: 4
