use rule score as score_whc with:
    wildcard_constraints:
        variant=variants_of("whc"),
