"""A sheet as Markdown, with pipe tables."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from daar.report.sheet import Cell, Grid, Heading, Section, Sheet

# numbers, or a dash in their place, alone in brackets cannot become a link, and stay legible in a terminal
_INTERVAL = re.compile(r"\\\[([−+]?\d+\.\d+, [−+]?\d+\.\d+|–)\\\]")


def page(sheet: Sheet) -> str:
    """The page, ending in a newline."""
    parts = [text for part in sheet.parts for text in _part(part)]
    return "\n\n".join((f"# {escape(sheet.title)}", *parts, *_bullets(sheet.notes))) + "\n"


def escape(text: str) -> str:
    """`text` so that Markdown prints it as it is, in one table cell."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))
    return _INTERVAL.sub(r"[\1]", escaped)


def pipe_table(frame: pd.DataFrame, aligned: Sequence[str]) -> str:
    """A pipe table of cells that are Markdown already.

    Args:
        frame: the cells.
        aligned: "left" or "right", for every column.
    """
    return frame.to_markdown(index=False, tablefmt="pipe", disable_numparse=True, colalign=aligned)


def bullets(texts: Iterable[str]) -> str:
    """A list of texts that are Markdown already."""
    return "\n".join(f"- {text}" for text in texts)


def _part(part: Section) -> list[str]:
    heading = [] if part.heading is None else [f"## {escape(part.heading)}"]
    return [*heading, *_bullets(part.facts), _grid(part.grid)]


def _bullets(texts: tuple[str, ...]) -> list[str]:
    return [bullets(map(escape, texts))] if texts else []


def _grid(grid: Grid) -> str:
    rows = []
    for row in grid.rows:
        if isinstance(row, Heading):  # Markdown has no cells that span
            rows.append([f"**{escape(row.text)}**", *[""] * (len(grid.heads) - 1)])
        else:
            rows.append([_cell(cell) for cell in row])
    aligned = ["left" if index < grid.left else "right" for index in range(len(grid.heads))]
    return pipe_table(pd.DataFrame(rows, columns=[escape(head) for head in grid.heads]), aligned)


def _cell(cell: Cell) -> str:
    return f"**{escape(cell.text)}**" if cell.bold else escape(cell.text)
