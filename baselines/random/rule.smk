use rule score as score_random with:
    wildcard_constraints:
        variant=variants_of("random"),
