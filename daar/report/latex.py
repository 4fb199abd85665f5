r"""A sheet as LaTeX tables: `\usepackage{booktabs,graphicx}` and `\input` are all they need, with any engine."""

import re
import unicodedata

from daar.report.sheet import Cell, Grid, Heading, Section, Sheet

_HEAD = r"% \usepackage{booktabs,graphicx}, then \input this file. Written by daar report: edits are lost."
# shrinks a table to the width of the page if it is wider, and no other
_SHRUNK = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{"
# as wide as a name may be before it takes a second line
_NAME_WIDTH = r"p{0.22\textwidth}"

# what means something else in LaTeX, also at the start of a row ([ and *) and in the OT1 fonts (<, >, |, ")
SPECIAL = {
    **{"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''"},
    **{"[": "{[}", "]": "{]}", "*": "{*}", "`": "{`}"},
    **{
        "±": r"$\pm$",
        "−": "$-$",
        "–": r"\textendash{}",
        "×": r"$\times$",
        "Δ": r"$\Delta$",
        "→": r"$\rightarrow$",
        "·": r"$\cdot$",
    },
    **{"ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ł": r"\l{}", "Ł": r"\L{}"},
    **{"’": "'", "‘": "`", "“": "``", "”": "''", "—": r"\textemdash{}", "…": r"\dots{}", "≤": r"$\le$", "≥": r"$\ge$"},
    **{"å": r"\aa{}", "Å": r"\AA{}"},
}
_ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."},
    **{"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c"},
}


def page(sheet: Sheet) -> str:
    """The tables, each a float as wide as the page, ending in a newline."""
    last = len(sheet.parts) - 1
    tables = [_part(part, sheet, sheet.notes if index == last else ()) for index, part in enumerate(sheet.parts)]
    return "\n\n".join([_HEAD, *tables]) + "\n"


def escape(text: str) -> str:
    """`text` so that LaTeX prints it as it is; a letter that plain LaTeX fonts lack as its code point, [U+4E2D]."""
    # two hyphens in a row would become a dash
    return re.sub("-(?=-)", "-{}", "".join(map(_character, " ".join(text.split()))))


def _character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii() and character.isprintable():
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii():
        dotless = {"i": r"\i", "j": r"\j"}  # under an accent
        return rf"\{_ACCENTS[marks[0]]}{{{dotless.get(base, base)}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def _part(part: Section, sheet: Sheet, notes: tuple[str, ...]) -> str:
    caption = sheet.title if part.heading is None else f"{sheet.title}: {part.heading}"
    below = [escape(text) for text in (*part.facts, *notes)]
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        r"\scriptsize",
        r"\setlength{\tabcolsep}{3pt}",
        # in one piece: a line end would be a space within the box
        _SHRUNK + "\n".join(_tabular(part.grid)) + "}",
        r"\par\medskip",
        r"\begin{minipage}{\textwidth}",
        r"\raggedright",
        *(rf"{text}\par" for text in below),
        r"\end{minipage}",
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _tabular(grid: Grid) -> list[str]:
    kept = [index for index, head in enumerate(grid.heads) if head in grid.narrow]
    columns = [_NAME_WIDTH if i == 0 else "l" if i < grid.left else "r" for i in kept]
    lines = [rf"\begin{{tabular}}{{{''.join(columns)}}}", r"\toprule"]
    lines += [_row([escape(grid.heads[i]) for i in kept]), r"\midrule"]
    for number, row in enumerate(grid.rows):
        if isinstance(row, Heading):
            lines += [r"\midrule"] if number else []
            lines += [rf"\multicolumn{{{len(kept)}}}{{l}}{{\textit{{{escape(row.text)}}}}} \\", r"\midrule"]
        else:
            lines.append(_row([_cell(row[i]) for i in kept]))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    return rf"\textbf{{{escape(cell.text)}}}" if cell.bold else escape(cell.text)
