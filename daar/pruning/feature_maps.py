"""Where the feature map of a conv is looked at: which tensor of what the network ran."""

from daar.program.program import Operation, Program

_BATCH_NORMS = (
    "native_batch_norm",
    "cudnn_batch_norm",
    "_batch_norm_no_update",
)
_ACTIVATIONS = (
    *("relu", "hardtanh", "leaky_relu", "elu", "silu", "gelu", "mish", "softplus", "hardswish", "hardsigmoid"),
    *("sigmoid", "tanh", "_prelu_kernel"),
)
_ADDITIONS = ("add",)
_JOINS = (
    *("cat", *_ADDITIONS, "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"),
    *("mean", "native_dropout"),
)


class Users:
    """Which operations read which tensors.

    Args:
        program: what the network ran.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._users: dict[int, list[Operation]] = {}
        for operation in program.operations:
            for number in dict.fromkeys(operation.reads()):
                self._users.setdefault(number, []).append(operation)

    def map_of(self, conv: Operation) -> tuple[int, Operation | None]:
        """The tensor that holds a conv's feature map: after BN and activation, and after an addition if there is one.

        That is the ReLU of the stem and of the first conv of a residual block, and for the last conv of a block the
        ReLU behind the addition, as HRank hooks them (docs/protocol.md). Where BN and activation come before the convs
        (DenseNet), it is the next layer's activation, which may also hold the channels of others.

        Returns:
            The tensor's number, and the BN in front of it where that is the next layer's: it knows where the conv's
            channels lie.
        """
        number = conv.makes()[0]
        while len(users := self._users.get(number, [])) == 1:
            (user,) = users
            if _plain(user) in _ACTIVATIONS:
                return user.makes()[0], None
            if _plain(user) not in (*_BATCH_NORMS, *_ADDITIONS):
                break
            number = user.makes()[0]
        norm = self._next_norm(number)
        return (self._users[norm.makes()[0]][0].makes()[0], norm) if norm is not None else (number, None)

    def _next_norm(self, number: int) -> Operation | None:
        """The first BN, as they run, that reads a tensor's channels and is followed by an activation alone."""
        reached = {number}
        for user in self._program.operations:
            if reached.isdisjoint(user.reads()):
                continue
            if user.name in _BATCH_NORMS:
                behind = self._users.get(user.makes()[0], [])
                if len(behind) == 1 and _plain(behind[0]) in _ACTIVATIONS:
                    return user
            elif _plain(user) in _JOINS:
                reached.update(user.makes())
        return None

    def norm_of(self, conv: Operation) -> Operation | None:
        """The BN that alone reads a conv's output; None if none does."""
        users = self._users.get(conv.makes()[0], [])
        return users[0] if len(users) == 1 and users[0].name in _BATCH_NORMS else None


def _plain(operation: Operation) -> str:
    return operation.name.rstrip("_")
