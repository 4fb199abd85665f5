"""A target as what may be left, and the closest one that can be met."""


def most_left(reduction: float, dense: int) -> int:
    """The most MACs, or parameters, that a target allows.

    Args:
        reduction: fraction of the dense ones to be removed, in [0, 1).
        dense: of the network as it is.
    """
    return int((1 - reduction) * dense)


def closest(least: int, dense: int) -> float:
    """The largest target, in thousandths, that what must stay allows; 0 where not even a thousandth can go.

    Args:
        least: MACs, or parameters, that stay in any case.
        dense: of the network as it is.
    """
    if not dense:
        return 0.0
    thousandths = 1000 * (dense - least) // dense
    # such as of 100 of 1,000: 1 - 0.9 is a little less than a tenth, and would leave 99
    while thousandths > 0 and most_left(thousandths / 1000, dense) < least:
        thousandths -= 1
    return max(0, thousandths) / 1000
