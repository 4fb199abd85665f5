"""A page of tables as plain text in cells: the one source of its Markdown, LaTeX and HTML forms.

Text in here is as a reader should see it. Every form escapes it for itself.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NONE = "–"


class Cell(NamedTuple):
    """One cell."""

    text: str
    bold: bool = False


class Heading(NamedTuple):
    """A row that spans the table and names those below it."""

    text: str


@dataclass(frozen=True)
class Grid:
    """One table.

    Attributes:
        heads: of the columns.
        rows: as many cells each as there are heads; or headings.
        left: how many columns, from the first, are words, aligned left; the others are numbers, aligned right.
        narrow: the columns that remain on a narrow page, as on paper.
    """

    heads: tuple[str, ...]
    rows: tuple[Heading | tuple[Cell, ...], ...]
    left: int
    narrow: frozenset[str]


class Section(NamedTuple):
    """A table with what must be known of it; `heading` is None for the first."""

    heading: str | None
    facts: tuple[str, ...]
    grid: Grid


@dataclass(frozen=True)
class Sheet:
    """A page: its title, its tables, and how to read them."""

    title: str
    parts: tuple[Section, ...]
    notes: tuple[str, ...]


def grid(
    rows: Iterable[Heading | Mapping[str, Cell | str]], heads: Sequence[str], left: int, narrow: Iterable[str]
) -> Grid:
    """A table of rows that name their cells by the column's head.

    Args:
        rows: a cell that a row lacks gets a dash; a column that all rows lack is left out.
        heads: all there may be, in order.
        left: as in Grid.
        narrow: as in Grid.
    """
    given = list(rows)
    shown = tuple(head for head in heads if any(not isinstance(row, Heading) and head in row for row in given))
    cells = tuple(
        row if isinstance(row, Heading) else tuple(_cell(row.get(head, NONE)) for head in shown) for row in given
    )
    return Grid(shown, cells, left, frozenset(narrow))


def headed(
    rows: Iterable[tuple[str, Mapping[str, Cell | str]]],
) -> Iterator[Heading | Mapping[str, Cell | str]]:
    """Put a heading above every run of rows that have the same one.

    Args:
        rows: (heading, row), in order.
    """
    for text, own in itertools.groupby(rows, key=lambda row: row[0]):
        yield Heading(text)
        yield from (cells for _, cells in own)


def _cell(given: Cell | str) -> Cell:
    return Cell(given) if isinstance(given, str) else given
