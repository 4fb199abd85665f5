"""Channel identities: which are the same, which go only together, and which must stay."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# (channels,) where a tensor has one channel dimension; (parts, channels of a part) where a view has split it in two
Layout = NDArray[np.int64]


class Identities:
    """A number for every channel that a network makes.

    Attributes:
        frozen: channel → why it must stay.
    """

    def __init__(self) -> None:
        self.frozen: dict[int, str] = {}
        self._count = 0
        self._same: list[tuple[Layout, Layout]] = []
        self._assumed: list[tuple[Layout, Layout, str]] = []

    def fresh(self, count: int) -> Layout:
        """New identities."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def unify(self, one: Layout, other: Layout) -> None:
        """Channels that can only go together, position by position."""
        assert one.shape == other.shape, (one.shape, other.shape)
        self._same.append((one, other))

    def tie(self, layout: Layout, parts: int) -> None:
        """Have equal parts of a layout stay equally wide: their i-th channels can only go together."""
        first, *others = np.split(layout, parts)
        for part in others:
            self.unify(first, part)

    def freeze(self, layout: Layout, reason: str) -> None:
        """Channels that must stay."""
        for channel in np.unique(layout).tolist():
            self.frozen.setdefault(channel, reason)

    def assume_same(self, layout: Layout, source: Layout, reason: str) -> None:
        """Freeze a layout unless, in the end, the source turns out to hold the same channels, in whatever order."""
        self._assumed.append((layout, source, reason))

    def settle(self) -> None:
        """Check the assumptions at the end of the network, when all unifications are known."""
        roots = self.roots()
        for layout, source, reason in self._assumed:
            if not np.array_equal(np.sort(roots[layout], axis=None), np.sort(roots[source], axis=None)):
                self.freeze(layout, reason)

    def roots(self) -> Layout:
        """(count,) for each identity the lowest of those that were unified with it."""
        none = np.zeros((2, 0), dtype=np.int64)
        pairs = np.concatenate([none, *(np.stack([one.ravel(), other.ravel()]) for one, other in self._same)], axis=1)
        edges = coo_array((np.ones(pairs.shape[1], dtype=bool), tuple(pairs)), shape=(self._count, self._count))
        count, labels = connected_components(edges, directed=False)
        lowest = np.full(count, self._count)
        np.minimum.at(lowest, labels, np.arange(self._count))
        return lowest[labels]  # type: ignore[no-any-return]  # scipy has no types
