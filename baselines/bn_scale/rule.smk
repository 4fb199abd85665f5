use rule score as score_bn_scale with:
    wildcard_constraints:
        variant=variants_of("bn_scale"),
