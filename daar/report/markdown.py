"""A sheet as Markdown, with pipe tables."""

import re

import pandas as pd

from daar.report.sheet import Cell, Grid, Heading, Part, Sheet

# numbers, or the dash for want of them, alone in brackets cannot become a link, and stay legible in a terminal
_INTERVAL = re.compile(r"\\\[([−+]?\d+\.\d+, [−+]?\d+\.\d+|–)\\\]")


def page(sheet: Sheet) -> str:
    """The page, ending in a newline."""
    parts = [text for part in sheet.parts for text in _part(part)]
    return "\n\n".join((f"# {escape(sheet.title)}", *parts, *_bullets(sheet.notes))) + "\n"


def escape(text: str) -> str:
    """`text` so that Markdown prints it as it is, in one table cell."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))
    return _INTERVAL.sub(r"[\1]", escaped)


def _part(part: Part) -> list[str]:
    heading = [] if part.heading is None else [f"## {escape(part.heading)}"]
    return [*heading, *_bullets(part.facts), _grid(part.grid)]


def _bullets(texts: tuple[str, ...]) -> list[str]:
    return ["\n".join(f"- {escape(text)}" for text in texts)] if texts else []


def _grid(grid: Grid) -> str:
    rows = []
    for row in grid.rows:
        if isinstance(row, Heading):  # Markdown has no cells that span
            rows.append([f"**{escape(row.text)}**", *[""] * (len(grid.heads) - 1)])
        else:
            rows.append([_cell(cell) for cell in row])
    aligned = ["left" if index < grid.left else "right" for index in range(len(grid.heads))]
    return pd.DataFrame(rows, columns=[escape(head) for head in grid.heads]).to_markdown(
        index=False, tablefmt="pipe", disable_numparse=True, colalign=aligned
    )


def _cell(cell: Cell) -> str:
    return f"**{escape(cell.text)}**" if cell.bold else escape(cell.text)
