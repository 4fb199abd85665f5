use rule score as score_fpgm with:
    wildcard_constraints:
        variant=variants_of("fpgm"),
