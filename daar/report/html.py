"""A sheet as a fragment of HTML that needs neither style sheet nor script, for a page of any encoding.

Accessible as the W3C's tables tutorial asks: a caption, and a scope on every header cell
(https://www.w3.org/WAI/tutorials/tables/).
"""

from html import escape as _escape

from daar.report.sheet import Cell, Grid, Heading, Section, Sheet

_TABLE = "border-collapse: collapse"
_CELL = "padding: 0.2em 0.7em; white-space: nowrap; text-align: "
_HEAD = "padding: 0.2em 0.7em; border-bottom: 1px solid; vertical-align: bottom; text-align: "


def page(sheet: Sheet) -> str:
    """The fragment, one <section>, ending in a newline."""
    lines = ["<section>", f"<h2>{escape(sheet.title)}</h2>"]
    for part in sheet.parts:
        lines += _part(part, sheet.title)
    return "\n".join([*lines, *_bullets(sheet.notes), "</section>"]) + "\n"


def escape(text: str) -> str:
    """`text` so that HTML prints it as it is; in ASCII alone, so that no encoding harms it."""
    words = " ".join(text.split())
    # references to control characters are errors in HTML
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
    return _escape(shown).encode("ascii", "xmlcharrefreplace").decode()


def _part(part: Section, title: str) -> list[str]:
    heading = [] if part.heading is None else [f"<h3>{escape(part.heading)}</h3>"]
    caption = title if part.heading is None else f"{title}: {part.heading}"
    return [*heading, *_bullets(part.facts), *_table(part.grid, caption)]


def _bullets(texts: tuple[str, ...]) -> list[str]:
    return ["<ul>", *(f"<li>{escape(text)}</li>" for text in texts), "</ul>"] if texts else []


def _table(grid: Grid, caption: str) -> list[str]:
    heads = (
        f'<th scope="col" style="{_HEAD}{_side(index, grid)}">{escape(head)}</th>'
        for index, head in enumerate(grid.heads)
    )
    lines = [f'<table style="{_TABLE}">', f"<caption>{escape(caption)}</caption>"]
    lines += [f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
    for index, row in enumerate(grid.rows):
        if isinstance(row, Heading):
            # a heading names the rows of its own body
            lines += ["</tbody>", "<tbody>"] if index else []
            span = f'scope="rowgroup" colspan="{len(grid.heads)}" style="{_CELL}left"'
            lines.append(f"<tr><th {span}>{escape(row.text)}</th></tr>")
        else:
            lines.append(f"<tr>{_row(row, grid)}</tr>")
    return [*lines, "</tbody>", "</table>"]


def _side(index: int, grid: Grid) -> str:
    return "left" if index < grid.left else "right"


def _row(row: tuple[Cell, ...], grid: Grid) -> str:
    first, *others = row
    cells = [f'<th scope="row" style="{_CELL}left">{_cell(first)}</th>']
    for index, cell in enumerate(others, start=1):
        cells.append(f'<td style="{_CELL}{_side(index, grid)}">{_cell(cell)}</td>')
    return "".join(cells)


def _cell(cell: Cell) -> str:
    return f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text)
