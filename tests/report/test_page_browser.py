"""report.html as people use it: in a browser, on a phone, by keyboard, in the dark, on paper, by a screen reader."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daar.report import context, latex, markdown, page, tables
from daar.suite import reading
from tests.report.browser import Browser, browser
from tests.report.report_rows import DAAR, L1, RANDOM, change
from tests.report.test_page import CONTENT, write

pytestmark = pytest.mark.slow
ODD = r"odd -- [x](y) 50% & $a_b$ \c {d} | e"
WIDTHS = (390, 1400)
PHONE = 390
PANEL = """<g id="panel:{}"><g id="matplotlib.axis_1"><g id="xtick_1"><g id="text_1">{}</g></g><g id="text_2">x</g></g>
<path id="a"/></g>"""
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
    + PANEL.format("0.5", "")
    + PANEL.format("0.7", "<text>1</text>")
    + "</svg>"
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as one:
        yield one


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page in a folder whose name a shell would split, of two networks and two targets, with further tables."""
    folder = tmp_path_factory.mktemp("report") / "it's here"
    (folder / "tables").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "tables" / "cifar10-resnet20-a.csv").write_text(
        f'target,what\n0.5,"{ODD}"\n0.7,"two words"\n', encoding="utf-8"
    )
    (folder / "figures" / "cifar10-resnet56-differences.svg").write_text(SVG)
    (folder / "figures" / "cifar10-resnet56-accuracy-macs.svg").write_text(re.sub("<g.*</g>", "", SVG, flags=re.DOTALL))
    (folder / "figures" / "cifar10-resnet56-attention.svg").write_text(SVG.replace("panel:0.7", "target:0.3"))
    (folder / "figures" / "cifar10-resnet56-stability.svg").write_text(re.sub("<g.*</g>", "", SVG, flags=re.DOTALL))
    content = CONTENT | {"networks": ["resnet20", "resnet56"], "macs_reductions": [0.5, 0.7]}
    one = [L1, DAAR, RANDOM]
    groups = [*one, *(change(group, target=0.7, macs_reduction=0.7) for group in one)]
    both = [*groups, *(change(group, network="resnet20") for group in groups)]
    suite = reading.from_config(content, "suite")
    write(folder, *both, suite=suite, content=content)
    tables.write_tables(folder / "results.csv", folder / "tables", context.of_suite(suite))
    page.write_page(suite, folder, folder / "suite.json")
    return folder / "report.html"


def choose(tab: Browser, name: str, value: str) -> None:
    tab.run(f"""(() => {{
      const one = document.getElementById("filter-{name}");
      one.value = {json.dumps(value)};
      one.dispatchEvent(new Event("change", {{ bubbles: true }}));
    }})()""")


def main_rows(tab: Browser, column: int, stem: str = "cifar10-resnet56") -> list[str]:
    found: list[str] = tab.run(f"""[...document.querySelectorAll("tr[id^=row-{stem}-]")]
      .map((row) => row.children[{column}].textContent)""")
    return found


def test_it_sorts_filters_and_complains_of_nothing(tab: Browser, report: Path) -> None:
    tab.show(report, 1400)
    tab.run("document.querySelector('article:last-of-type table.main thead th:nth-child(3)').click()")
    assert [text.split()[0] for text in main_rows(tab, 2)] == ["92.00"] * 2 + ["92.80"] * 2 + ["93.20"] + ["93.40"] * 2
    choose(tab, "target", "70%")
    assert main_rows(tab, 1) == ["70%", "70%", "–", "70%"]  # in the order that was sorted
    assert tab.complaints == []


def test_filters_act_on_tables_figures_and_words_alike(tab: Browser, report: Path) -> None:
    seen = "[...document.querySelectorAll('{}')].filter((one) => one.checkVisibility()).length"
    tab.show(report, 1400)
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    marks = "[...document.querySelectorAll('.plot')].map((one) => one.data?.flatMap((trace) => trace.x) ?? [])"
    before = tab.run(marks)
    assert [len(one) for one in before] == [6, 6]
    choose(tab, "target", "70%")
    assert all(len(one) == 3 and all(abs(x - 30) < 1e-6 for x in one) for one in tab.run(marks))
    assert tab.run(seen.format("li[data-target]")) == 2
    bodies = "[...document.querySelectorAll('th[scope=rowgroup]')].filter((one) => one.checkVisibility())"
    assert set(tab.run(f"{bodies}.map((one) => one.textContent)")) == {"Target: 70% of the MACs removed"}
    assert tab.run("[...document.querySelectorAll('table.more tr[data-target]')].map((one) => one.dataset.target)"
                   ".filter(Boolean).every((one) => one === '70%')")  # fmt: skip
    assert "18 entries" in tab.run("document.querySelector('.dt-info').textContent")  # 2 networks, 3 rows, 3 seeds
    # a picture that mixes targets is left out, and so is one of another target
    assert tab.run(seen.format("details.figure")) == 2
    note = "document.querySelector('article:last-of-type .left-out').textContent"
    assert all(name in tab.run(note) for name in ("accuracy versus MACs, in print", "what a method looks at"))
    assert faded(tab) == [["panel:0.5", "text_1"], ["panel:0.5", "a"]]
    overlap = """(() => {
      const place = document.querySelector(".plot");
      return place.querySelector(".main-svg").getBoundingClientRect().bottom
        - place.nextElementSibling.getBoundingClientRect().top;
    })()"""
    assert tab.run(overlap) <= 0  # the caption is below the figure
    choose(tab, "network", "resnet56")
    assert tab.run(seen.format("article")) == 1
    assert "9 entries" in tab.run("document.querySelector('.dt-info').textContent")
    assert "4 rows" in tab.run("document.getElementById('filtered').textContent")
    tab.run("document.querySelector('button[type=reset]').click()")
    assert tab.run(f"new Promise((then) => setTimeout(() => then({seen.format('article')}), 50))") == 2
    assert tab.run(marks) == before
    assert tab.run(seen.format("details.figure")) == 4
    assert faded(tab) == []


def test_panels_that_share_an_axis_keep_it(tab: Browser, report: Path) -> None:
    tab.show(report, 1400)
    choose(tab, "target", "50%")  # whose panel has no numbers
    assert faded(tab) == [["panel:0.7", "a"]]


def faded(tab: Browser) -> list[list[str]]:
    """The faded parts of the picture of differences, each with its panel's id; labels of axes and the like are not."""
    found: list[list[str]] = tab.run("""(() => {
      const { src } = document.querySelector("img[alt*=paired]");
      const text = src.includes("base64") ? atob(src.split(",")[1]) : decodeURIComponent(src.split(/,(.*)/s)[1]);
      const drawing = new DOMParser().parseFromString(text, "image/svg+xml");
      return [...drawing.querySelectorAll("[opacity]")].map(
        (part) => [part.closest("[id^='panel:']").id, part.id]);
    })()""")
    return found


def test_on_a_phone_the_main_numbers_are_in_sight(tab: Browser, report: Path) -> None:
    tab.show(report, PHONE)
    assert tab.run("document.documentElement.scrollWidth") == PHONE
    places = tab.run("""[...document.querySelectorAll("table.main tr[id]")].map((row) => [2, 3].map((index) => {
      const range = document.createRange();
      range.selectNodeContents(row.children[index]);
      const { left, right } = range.getBoundingClientRect();
      return [left, right, row.children[index].textContent];
    }))""")
    assert len(places) == 14
    for left, right, text in (cell for row in places for cell in row):
        assert left >= 0, text
        assert right <= PHONE, text
    hint = "document.querySelector('article .wider')"
    assert tab.run(f"{hint}.checkVisibility() && {hint}.textContent").startswith("More columns")
    tab.show(report, 1400)
    assert not tab.run(f"{hint}.checkVisibility()")


def test_a_table_is_copied_as_it_is_shown(tab: Browser, report: Path) -> None:
    tab.show(report, 1400)
    tab.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }; 0")

    def copied(form: str, place: str) -> str:
        within = f"document.querySelector('{place}').closest('article, details')"
        button = f"{within}.querySelector('.copy button[aria-label^=\"Copy as {form}\"]')"
        tab.run(f"(async () => {{ {button}.click(); await new Promise((then) => setTimeout(then, 50)); }})()")
        return str(tab.run("window.copied"))

    choose(tab, "target", "70%")
    heads, *rows = csv.reader(io.StringIO(copied("CSV", "article:last-of-type table.main")))
    assert heads[:4] == ["Method", "Target", "Tuned top-1", "vs DAAR"]
    assert [row[0] for row in rows] == main_rows_titles(tab)
    assert rows[2][:4] == ["L1", "70%", "92.80 ± 0.26", "-0.60 [-1.10, -0.10]"]
    assert "4 rows copied as CSV." in tab.run("document.querySelector('.copied').textContent")
    choose(tab, "target", "")
    odd = "details[data-network=resnet20] table.more"
    head, _, first, second = copied("Markdown", odd).splitlines()
    assert head == "| target | what |"
    assert first == f"| 0.5 | {markdown.escape(ODD)} |"
    lines = copied("LaTeX", odd).splitlines()
    assert lines[0] == r"\begin{tabular}{rl}"  # numbers to the right
    assert lines[4] == rf"0.5 & {latex.escape(ODD)} \\"
    assert [*csv.reader(io.StringIO(copied("CSV", odd)))][1] == ["0.5", ODD]
    assert second == "| 0.7 | two words |"


def main_rows_titles(tab: Browser) -> list[str]:
    return [text.split("\N{NO-BREAK SPACE}")[0] for text in main_rows(tab, 0)]


def test_a_link_leads_to_its_row(tab: Browser, report: Path) -> None:
    where = """(() => {
      const rows = [...document.querySelectorAll("tr.linked")];
      const { top, bottom } = rows[0].getBoundingClientRect();
      return [rows.length, rows[0].id, top >= 0 && bottom <= window.innerHeight];
    })()"""
    tab.show(report, 1400, "#row-cifar10-resnet56-l1-uniform-70")
    tab.run("new Promise((then) => setTimeout(then, 100))")
    assert tab.run(where) == [1, "row-cifar10-resnet56-l1-uniform-70", True]
    # also where the row was filtered out
    choose(tab, "target", "70%")
    other = "row-cifar10-resnet20-daar-adaptive-50"
    tab.run(f"window.location.hash = '#{other}'; new Promise((then) => setTimeout(then, 200))")
    assert tab.run(where) == [1, other, True]
    assert tab.run("[...document.querySelectorAll('.link')].every((one) => document.querySelector(one.hash))")


def test_commands_name_the_records_next_to_the_page(tab: Browser, report: Path) -> None:
    tab.show(report, 1400)
    command = tab.run("document.querySelector('.path').textContent")
    record = report.parent / "cifar10/resnet56/seed0/l1/uniform-all-0.5/record.json"
    assert shlex.split(command) == ["daar", "reproduce", str(record)]
    assert "next to this page" in tab.run("document.querySelector('.folder').textContent")


def test_a_keyboard_is_enough(tab: Browser, report: Path) -> None:
    tab.show(report, 1400)
    tab.press("Tab", 9)
    assert tab.run("document.activeElement.textContent") == "Skip to the results"
    assert tab.run("document.activeElement.getBoundingClientRect().left") >= 0
    reached = []
    for _ in range(30):
        tab.press("Tab", 9)
        reached.append(
            tab.run("""(() => {
          const { outlineStyle } = getComputedStyle(document.activeElement);
          return [document.activeElement.getAttribute("aria-label") ?? document.activeElement.id, outlineStyle];
        })()""")
        )
    names = [name for name, _ in reached]
    title = "ResNet-20 on CIFAR-10"
    assert {"filter-target", f"Copy as CSV: {title}: accuracies and sizes", f"{title}: table"} <= set(names)
    assert any(name.startswith("Link to the row") for name in names)
    assert all(style != "none" for _, style in reached), reached
    tab.run("document.querySelector('table.main thead th:nth-child(3) [role=button]').focus()")
    tab.press("Enter", 13, "\r")
    tab.run("new Promise((then) => setTimeout(then, 200))")  # it sorts a moment later
    assert tab.run("document.querySelector('table.main thead th:nth-child(3)').getAttribute('aria-sort')")


def test_on_paper_it_is_black_on_white_without_buttons(tab: Browser, report: Path) -> None:
    try:
        tab.media("dark", "print")
        tab.show(report, 718)
        for what in (".filters", ".copy", ".link", ".dt-paging"):
            assert not tab.run(f"document.querySelector('{what}').checkVisibility()"), what
        assert tab.run("document.documentElement.scrollWidth") <= 718  # A4 without its margins: nothing is cut off
        assert tab.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.run("getComputedStyle(document.querySelector('.plot .xtick text')).fill") == "rgb(0, 0, 0)"
    finally:
        tab.media()


def _axe() -> Path:
    """axe-core, which npm has; the test is skipped where it is not."""
    places = [Path(os.environ["AXE"])] if "AXE" in os.environ else []
    places.append(Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js")
    if shutil.which("npm"):
        there = subprocess.run(["npm", "root", "--global"], capture_output=True, text=True, check=False).stdout.strip()
        places.append(Path(there) / "axe-core/axe.min.js")
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        pytest.skip("no axe-core: npm install --no-save axe-core, or AXE=…/axe.min.js")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_violation(tab: Browser, report: Path, width: int, scheme: str) -> None:
    axe = _axe().read_text(encoding="utf-8")
    try:
        tab.media(scheme)
        tab.show(report, width, "#row-cifar10-resnet56-l1-uniform-70")
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.run(f"{axe}; 0")
        found = tab.run("""axe.run().then((all) => all.violations.map(
          (one) => [one.id, one.help, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))]))""")
    finally:
        tab.media()
    assert found == []
