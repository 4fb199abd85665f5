use rule score as score_daar with:
    wildcard_constraints:
        variant=variants_of("daar"),
    threads: 4
