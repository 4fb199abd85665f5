use rule score as score_activation with:
    wildcard_constraints:
        variant=variants_of("activation"),
