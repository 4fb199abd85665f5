use rule score as score_group_norm with:
    wildcard_constraints:
        variant=variants_of("group_norm"),
