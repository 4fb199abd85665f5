use rule score as score_fisher with:
    wildcard_constraints:
        variant=variants_of("fisher"),
    threads: 4
