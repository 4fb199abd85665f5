"""The forms of a page: LaTeX and HTML are parsed back, hostile text included."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from daar.report import accuracies, html, latex, markdown
from daar.report.context import Context
from daar.report.sheet import Cell, Grid, Heading, Section, Sheet, grid
from daar.report.sheet_files import write
from tests.report.report_rows import DAAR, L1, RANDOM, change, frame

HOSTILE = '\\input{x} $1 & 2_3^4 #5 %6 ~7 {8} <b>|"9"</b> [e](f) *i* `c` -- \x07 \u4e2d é\u202e\n# new'
SHEET = Sheet(
    HOSTILE,
    (
        Section(
            None,
            (HOSTILE,),
            Grid(
                ("Method", "A", "B"),
                (
                    (Cell(HOSTILE), Cell("1"), Cell("2", bold=True)),
                    Heading(HOSTILE),
                    (Cell("[x]"), Cell("+0.42 [−0.10, +0.94] tied"), Cell("–")),
                ),
                1,
                frozenset({"Method", "B"}),
            ),
        ),
        Section("second", (), Grid(("Method",), ((Cell("* y"),),), 1, frozenset({"Method"}))),
    ),
    (HOSTILE,),
)


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text within each kind of element; checks that elements nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def test_html_nests_and_keeps_hostile_text_as_text() -> None:
    text = html.page(SHEET)
    assert text.isascii()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    known = {"section", "h2", "h3", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td", "strong"}
    assert {tag for tag, _ in reader.tags} == known
    shown = " ".join(HOSTILE.split()).replace("\x07", "\ufffd").replace("\u202e", "\ufffd")
    assert reader.texts["h2"] == [shown]
    assert shown in reader.texts["th"]
    assert reader.texts["strong"] == ["2"]


def test_html_is_accessible() -> None:
    reader = Reader()
    reader.feed(html.page(SHEET))
    tables = sum(tag == "table" for tag, _ in reader.tags)
    assert sum(tag == "caption" for tag, _ in reader.tags) == tables == 2
    scopes = [attributes["scope"] for tag, attributes in reader.tags if tag == "th"]
    assert scopes == ["col", "col", "col", "row", "rowgroup", "row", "col", "row"]


def unescaped(text: str, character: str) -> list[str]:
    return re.findall(rf"(?<!\\){re.escape(character)}", text)


def test_latex_has_only_the_commands_that_it_needs() -> None:
    text = latex.page(SHEET)
    assert text.isascii()
    body = text.split("\n", 1)[1]
    assert not unescaped(body, "#")
    assert not unescaped(body, "%")
    assert not unescaped(body, "_")
    assert not unescaped(body, "~")
    assert not re.search(r"\\input", body)
    assert len(unescaped(body, "$")) % 2 == 0
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", body):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    begun, ended = re.findall(r"\\begin\{([a-z*]+)\}", body), re.findall(r"\\end\{([a-z*]+)\}", body)
    assert sorted(begun) == sorted(ended)
    assert "{[}U+4E2D{]}" in body
    assert r"\'{e}" in body


def test_latex_rows_have_their_columns_and_no_row_starts_with_an_option() -> None:
    text = latex.page(SHEET)
    for tabular in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL):
        head, *lines = tabular.splitlines()
        columns = len(re.sub(r"p\{0\.22\\textwidth\}", "p", head.removeprefix(r"\begin{tabular}").strip()[1:-1]))
        rows = [line for line in lines if line.endswith(r"\\")]
        for row in rows:
            assert not row.startswith(("[", "*"))
            if not row.startswith(r"\multicolumn"):
                assert len(re.findall(r"(?<!\\)&", row)) == columns - 1, row
        assert lines[0] == r"\toprule"
        assert lines[-2] == r"\bottomrule"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("Ñandú, Dvořák, Łódź, naïve, Ōe", r"\~{N}and\'{u}, Dvo\v{r}\'{a}k, \L{}\'{o}d\'{z}, na\"{\i}ve, \={O}e"),
        ("50% ± 1 − 2 – 3", r"50\% $\pm$ 1 $-$ 2 \textendash{} 3"),
    ],
)
def test_latex_escapes(text: str, expected: str) -> None:
    assert latex.escape(text) == expected


@pytest.mark.slow
def test_latex_compiles(tmp_path: Path) -> None:
    engine = next((name for name in ("pdflatex", "tectonic", "lualatex", "xelatex") if shutil.which(name)), None)
    if engine is None:
        pytest.skip("no LaTeX here")
    real = accuracies.sheet(frame(L1, DAAR, RANDOM, change(L1, policy="published", macs_reduction=0.3)), Context())
    body = latex.page(SHEET) + latex.page(real)
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n" + body + "\\end{document}\n"
    )
    options = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "main.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "main.pdf").stat().st_size > 1000
    # nothing hangs out into the margin
    assert "Overfull" not in done.stdout


def test_markdown_leaves_intervals_legible_and_nothing_else() -> None:
    assert markdown.escape("+0.42 [−0.10, +0.94] tied") == "+0.42 [−0.10, +0.94] tied"
    assert markdown.escape("[a, b](c) [1]: d") == r"\[a, b\](c) \[1\]: d"
    lines = markdown.page(SHEET).splitlines()
    assert [line[:2] for line in lines if line and not line.startswith("|")] == ["# ", "- ", "##", "- "]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")} == {4, 2}


def test_grid_leaves_out_what_no_row_has() -> None:
    made = grid([Heading("h"), {"A": "1"}, {"A": "2", "C": Cell("3", bold=True)}], ("A", "B", "C"), 1, ("A",))
    assert made.heads == ("A", "C")
    assert made.rows == (Heading("h"), (Cell("1"), Cell("–")), (Cell("2"), Cell("3", bold=True)))


def test_forms_are_deterministic_and_named_after_the_page(tmp_path: Path) -> None:
    numbers = pd.DataFrame({"a": [1 / 3]})
    first = write(tmp_path / "first" / "vgg16.bn", SHEET, numbers)
    second = write(tmp_path / "second" / "vgg16.bn", SHEET, numbers)
    assert [path.name for path in first] == ["vgg16.bn.md", "vgg16.bn.csv", "vgg16.bn.tex", "vgg16.bn.html"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[1].read_text() == f"a\n{1 / 3!r}\n"
