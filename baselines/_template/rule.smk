# Renames 2 and 3 of 3. The base rule, daar's `score`, has inputs, output and command; whatever is the method's
# own is added here, for instance `threads: 4` for a slow criterion.
use rule score as score_my_method with:
    wildcard_constraints:
        variant=variants_of("my_method"),
