use rule score as score_hrank with:
    wildcard_constraints:
        variant=variants_of("hrank"),
    threads: 4
