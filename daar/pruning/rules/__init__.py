"""What each ATen operation does with channels: from the labels of what it reads to those of what it makes.

A rule says where a channel comes to lie and which channels can only go together from here on. It does not have to know
where a number came from that stands in the code, such as a width in a `view`: a plan that relies on one is proposed,
proven against the masked network, and repaired (daar/pruning/proof.py). What no rule follows keeps its channels.
"""

from daar.pruning.rules import images, indexing, layers, pointwise, reductions, views
from daar.pruning.rules.run import Rule

RULES: dict[str, Rule] = {
    **pointwise.RULES,
    **views.RULES,
    **images.RULES,
    **indexing.RULES,
    **reductions.RULES,
    **layers.RULES,
}
