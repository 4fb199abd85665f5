use rule score as score_depgraph with:
    wildcard_constraints:
        variant=variants_of("depgraph"),
