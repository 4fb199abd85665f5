"""Write a page of tables in all its forms: Markdown, CSV, LaTeX and HTML."""

from pathlib import Path

import pandas as pd

from daar.report import html, latex, markdown
from daar.report.sheet import Sheet
from daar.storage.files import write_text

ENDINGS = (".md", ".csv", ".tex", ".html")


def write(stem: Path, sheet: Sheet, numbers: pd.DataFrame) -> list[Path]:
    """Write a page in its forms, `stem` with each of ENDINGS; the CSV holds the numbers, unrounded.

    Returns:
        The files written.
    """
    texts = {
        ".md": markdown.page(sheet),
        ".csv": numbers.to_csv(index=False, lineterminator="\n"),
        ".tex": latex.page(sheet),
        ".html": html.page(sheet),
    }
    # not with_suffix: names may hold dots
    paths = {stem.with_name(stem.name + ending): texts[ending] for ending in ENDINGS}
    for path, text in paths.items():
        write_text(path, text)
    return list(paths)
