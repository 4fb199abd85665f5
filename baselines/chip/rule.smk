use rule score as score_chip with:
    wildcard_constraints:
        variant=variants_of("chip"),
    threads: 4
