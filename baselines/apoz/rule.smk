use rule score as score_apoz with:
    wildcard_constraints:
        variant=variants_of("apoz"),
