"""Identities of positions: which are the same, which go only together, and which must stay."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# (size,) the identity at each position along one dimension of a tensor
Labels = NDArray[np.int64]
# of a position that holds a constant and takes whatever identity it meets, as zeros that code makes for padding
BLANK = -1


class Identities:
    """A number for every position along a dimension of a tensor that may be cut.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._same: list[tuple[Labels, Labels]] = []
        self._frozen: list[tuple[Labels, str]] = []

    def fresh(self, size: int) -> Labels:
        """New identities."""
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def unify(self, one: Labels, other: Labels) -> None:
        """Positions that can only go together, pairwise; blanks go with anything."""
        assert one.shape == other.shape, (one.shape, other.shape)
        if one is not other:
            known = (one != BLANK) & (other != BLANK)
            self._same.append((one[known], other[known]))

    def tie(self, labels: Labels, parts: int) -> Labels:
        """Have equal parts stay equally wide: their i-th positions can only go together. Returns those of one part."""
        rows: Labels = labels.reshape(parts, -1)
        for row in rows[1:]:
            self.unify(rows[0], row)
        first: Labels = rows[0]
        return first

    def freeze(self, labels: Labels | None, reason: str, *, foremost: bool = False) -> None:
        """Positions that must stay; of several reasons the first is told, or one that is foremost."""
        if labels is not None and len(labels):
            one = np.unique(labels[labels != BLANK]), reason
            self._frozen.insert(0 if foremost else len(self._frozen), one)

    def settled(self) -> tuple[Labels, dict[int, str]]:
        """(count,) for each identity the lowest of those unified with it; and of such, why they must stay."""
        none = np.zeros((2, 0), dtype=np.int64)
        pairs = np.concatenate([none, *(np.stack(pair) for pair in self._same)], axis=1)
        edges = coo_array((np.ones(pairs.shape[1], dtype=bool), tuple(pairs)), shape=(self.count, self.count))
        count, classes = connected_components(edges, directed=False)
        lowest = np.full(count, self.count)
        np.minimum.at(lowest, classes, np.arange(self.count))
        roots: Labels = lowest[classes]
        frozen: dict[int, str] = {}
        for labels, reason in self._frozen:
            for root in np.unique(roots[labels]).tolist():
                frozen.setdefault(root, reason)
        return roots, frozen
