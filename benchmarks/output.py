"""Output of the benchmarks: JSON with all windows, a Markdown table, and a figure of the ratios."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from benchmarks.harness import RATE, Numbers, Result
from daar.storage import files

NONE = "–"
# Okabe & Ito's palette, for colour-blind readers
COLOURS = {True: "#009E73", False: "#D55E00", None: "#0072B2"}
WORDS = {True: "goal reached", False: "goal missed", None: "no goal set"}
DATA = (
    "Images are random uint8 pixels of CIFAR-10's size, networks freshly initialised: speed does not depend on "
    "either, and no dataset is needed."
)
METHOD = (
    "Windows of ours and of the reference alternate in one run, after a warm-up; each ratio is of two neighbouring "
    "windows. Medians, with the range over all windows in brackets. A ratio above 1 means that ours is faster."
)


def write(folder: Path, run: dict[str, Any], results: Sequence[Result]) -> None:
    """Write bench.json, bench.md and, if there are ratios, bench.png.

    Args:
        folder: of the files; created if needed.
        run: date, environment and settings of the run.
        results: of the benchmarks.
    """
    files.write_json(folder / "bench.json", to_json(run, results))
    files.write_text(folder / "bench.md", markdown(run, results))
    drawn = [result for result in results if result.compared and not result.benchmark.difference]
    picture = folder / "bench.png"
    if not drawn:
        picture.unlink(missing_ok=True)  # the figure of an earlier run would not fit the table
        return
    with matplotlib.style.context("default"), files.atomic(picture) as temporary:
        figure(run, drawn).savefig(temporary, dpi=200, metadata={"Software": None})


def to_json(run: dict[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    """The run, with all windows of all benchmarks."""
    return {**run, "data": DATA, "benchmarks": [result.to_json() for result in results]}


def markdown(run: dict[str, Any], results: Sequence[Result]) -> str:
    """The table, the machine, and the settings of either side."""
    lines = ["# Speed", "", machine(run), "", METHOD, DATA, ""]
    lines += ["| What | Ours | Reference | Ratio | n | Goal | Reached |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_row(result))} |" for result in results]
    lines += ["", "What ran:", ""]
    for result in results:
        facts = [f"{what}: {'yes' if holds else 'no'}" for what, holds in result.facts.items()]
        if result.repeated:
            facts.append(f"rounds repeated because other programs were running: {result.repeated}")
        lines.append(f"- `{result.benchmark.name}`: {'; '.join(['; reference: '.join(result.what), *facts])}")
    return "\n".join(lines) + "\n"


def machine(run: dict[str, Any]) -> str:
    """Date, hardware, threads, versions and commit, in one line."""
    made = run["environment"]
    hardware = made["hardware"]
    device = f"{hardware['cpu']}, {hardware['cores']} cores, {made['threads']} threads"
    if hardware["gpu"]:
        device += f"; {hardware['gpu']}"
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    load = (
        f" Load average {run['load_before']:.1f} before, {run['load_after']:.1f} after." if "load_before" in run else ""
    )
    return (
        f"{run['date']}, commit {made['commit'] or 'unknown'}. {device}; networks on {run['device']}. {versions}.{load}"
    )


def line(result: Result) -> str:
    """One result as a line for the terminal."""
    _, ours, reference, compared, count, _, reached = _row(result)
    against = f", reference {reference}: {compared}" if result.reference else ""
    goal = f"; goal {result.benchmark.goal.words}: {reached}" if result.benchmark.goal else ""
    return f"{ours}{against}, n = {count}{goal}"


def _row(result: Result) -> tuple[str, ...]:
    unit, compared = result.unit, NONE
    if result.compared:
        compared = _spread(result.compared, "s" if result.benchmark.difference else "×", result.benchmark.difference)
    return (
        result.benchmark.title,
        _spread(result.ours, unit),
        _spread(result.reference, unit) if result.reference else NONE,
        compared,
        str(len(result.ours.windows)),
        result.benchmark.goal.words if result.benchmark.goal else NONE,
        {True: "yes", False: "**no**", None: NONE}[result.reached],
    )


def _spread(numbers: Numbers, unit: str, signed: bool = False) -> str:
    """Median, unit and range: `1,640 images/s (1,610–1,655)`, `81.3 ms (79.9–90.1)`, `2.05× (1.98–2.11)`."""
    factor, digits, space = 1.0, 2, ""
    if unit == RATE:
        digits, space = 0, " "
    elif unit == "s":
        space = " "
        if abs(numbers.median) < 1:
            factor, unit = 1000.0, "ms"
        digits = max(0, 2 - math.floor(math.log10(max(abs(numbers.median) * factor, 0.01))))
    median, low, high = (
        f"{value * factor:,.{digits}f}" for value in (numbers.median, min(numbers.windows), max(numbers.windows))
    )
    sign = "+" if signed and numbers.median > 0 else ""
    between = " to " if signed else "–"
    return f"{sign}{median}{space}{unit} ({low}{between}{high})"


def figure(run: dict[str, Any], results: Sequence[Result]) -> Figure:
    """Bars of the median ratios with their ranges, a line at 1, and a mark at each goal."""
    picture = Figure(figsize=(7.2, 1.6 + 0.42 * len(results)), layout="constrained")
    axes = picture.subplots()
    labelled: set[str] = set()

    def once(label: str) -> str | None:
        """The label for the legend the first time, then None."""
        known = label in labelled
        labelled.add(label)
        return None if known else label

    for place, result in enumerate(results):
        assert result.compared is not None
        ratio = result.compared
        low, high = min(ratio.windows), max(ratio.windows)
        axes.barh(place, ratio.median, 0.62, color=COLOURS[result.reached], label=once(WORDS[result.reached]))
        axes.plot([low, high], [place, place], color="black", linewidth=1.2, marker="|", markersize=7)
        axes.annotate(f"{ratio.median:.2f}×", (high, place), (5, 0), textcoords="offset points", va="center")
        goal = result.benchmark.goal
        if goal and goal.ratio:
            ends = [place - 0.4, place + 0.4]
            axes.plot([goal.ratio] * 2, ends, color="black", linestyle=":", linewidth=1.5, label=once("goal"))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(results)), [result.benchmark.title for result in results])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(max(r.compared.windows) for r in results if r.compared))
    picture.supxlabel("times as fast as the reference loop (bar: median, line: range over windows)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    picture.legend(frameon=False, loc="outside upper right", ncols=4, fontsize=8, columnspacing=1.2)
    made = run["environment"]
    hardware = made["hardware"]
    where = hardware["gpu"] if run["device"] == "cuda" else f"{hardware['cpu']}, {made['threads']} threads"
    title = f"daar compared with loops in the usual style\n{where}, {run['date'][:10]}"
    picture.suptitle(title, x=0.01, ha="left", fontsize=10)
    return picture
