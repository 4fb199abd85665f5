"""Published results of one (dataset, network), without ours: a table of all, and points for a figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

import pandas as pd

from daar.report import literature
from daar.report.literature import PublishedResult
from daar.report.markdown import bullets, escape, pipe_table
from daar.report.names import pair_title
from daar.report.sheet import NONE
from daar.report.table_text import count, percent, signed
from daar.storage.files import write_text

KINDS = {"paper": "paper", "official_readme": "official page", "secondary_table": "secondary"}
COUNTING = {"slim": "slim", "thop": "slim, by thop", "masked": "masked", "double": "2 × MACs"}
_TUNED = {"yes": "yes", "no": "no", "scratch": "from scratch"}
_COLUMNS = (
    "method", "variant", "paper_title", "year", "venue", "doi_or_arxiv", "dataset", "network", "baseline_top1",
    "pruned_top1", "delta", "printed_delta", "contradicts_itself", "macs_reduction", "flops_million",
    "flops_reduction_pct", "speed_up", "counting", "params_million", "params_reduction_pct", "finetuned",
    "tuning_epochs", "selection", "source_kind", "source_url", "note",
)  # fmt: skip
_NOTES = (
    "These are published figures, as printed; none was measured here. DAAR's own come first, then by MACs removed; "
    "what this suite measures under its name is a reconstruction from the abstract.",
    "Δ is pruned − dense top-1 in points, computed from the two; *printed* where the source gives the difference "
    "alone, or another one. A dash: not published.",
    "FLOPs mean MACs. Counting: *slim* is a really slim network, *masked* one whose filters are zeroed and counted "
    "by a rule of the source's own; thop adds BN. Sources do not count alike: do not rank by single points.",
    "Kind: the paper, a page of its authors, or a table of others (secondary). *Best of test*: the epoch with the best "
    "accuracy on the test images. The CSV file next to this one has all columns and the remarks.",
)


def write_published(folder: Path, pairs: Iterable[tuple[str, str]]) -> list[Path]:
    """Write `<dataset>-<network>-published.md` and `.csv` for every pair that has published results.

    Args:
        folder: where the tables go.
        pairs: (dataset, network), by our names.

    Returns:
        The files written.

    Raises:
        InputError: the published results are damaged.
    """
    known = literature.pairs()
    paths = []
    for dataset, network in pairs:
        if (dataset, network) not in known:
            continue
        results = ordered(literature.of_pair(dataset, network))
        text = table(results).to_csv(index=False, lineterminator="\n")
        for suffix, content in ((".md", markdown(results, dataset, network)), (".csv", text)):
            paths.append(Path(folder) / f"{dataset}-{network}-published{suffix}")
            write_text(paths[-1], content)
    return paths


def ordered(results: Iterable[PublishedResult]) -> list[PublishedResult]:
    """DAAR's own first, then by MACs removed, those without at the end; the order of the file breaks ties."""
    return sorted(
        results, key=lambda one: (one.our_method != "daar", one.macs_reduction is None, one.macs_reduction or 0)
    )


def table(results: Iterable[PublishedResult]) -> pd.DataFrame:
    """The numeric table: the schema's columns, and those of `PublishedResult`'s properties."""
    return pd.DataFrame([{column: getattr(one, column) for column in _COLUMNS} for one in results], columns=_COLUMNS)


def markdown(results: Sequence[PublishedResult], dataset: str, network: str) -> str:
    """The page of one (dataset, network)."""
    grid = pd.DataFrame([_cells(one) for one in results])
    text = pipe_table(grid, ["left"] * 2 + ["right"] * 6 + ["left"] * 4)
    unnamed = (
        f"The source of {escape(one.method)} names no network, so its result stands in the tables of all networks."
        for one in results
        if not one.network
    )
    notes = bullets((*_NOTES, *unnamed))
    return f"# Published results: {escape(pair_title(network, dataset))}\n\n{text}\n\n{notes}\n"


def points(dataset: str, network: str) -> pd.DataFrame:
    """Published points for a figure of accuracy over MACs.

    Results without tuning and those whose source names no network are left out. Papers are quoted in many tables: of
    equal results only the one nearest to its origin is kept.

    Returns:
        macs_reduction (fraction of the dense MACs), pruned_top1 (percent), drop (dense − pruned, points; NaN where it
        is not published), label (the method) and source (`KINDS`), fewest MACs removed first.
    """
    rows = [
        {
            "macs_reduction": one.macs_reduction,
            "pruned_top1": one.pruned_top1,
            "drop": None if one.delta is None else -one.delta,
            "label": one.method,
            "source": KINDS[one.source_kind],
        }
        for kind in KINDS
        for one in ordered(literature.of_pair(dataset, network))
        if one.source_kind == kind and one.network and one.finetuned != "no"
    ]
    frame = pd.DataFrame(rows, columns=["macs_reduction", "pruned_top1", "drop", "label", "source"])
    frame = frame.astype({"macs_reduction": float, "pruned_top1": float, "drop": float})
    frame = frame.dropna(subset=["macs_reduction", "pruned_top1"])
    same = frame.assign(macs_reduction=frame["macs_reduction"].round(3)).duplicated(
        ["label", "macs_reduction", "pruned_top1"]
    )
    return frame[~same].sort_values(["macs_reduction", "label", "pruned_top1"], ignore_index=True)


def source(result: PublishedResult) -> str:
    """Where a result was read, as a Markdown link, or in words where no address is known."""
    host = urlsplit(result.source_url).netloc
    if not host:
        return escape(result.source_url)
    label = f"arXiv:{result.source_url.rsplit('/', 1)[1]}" if host == "arxiv.org" else host.removeprefix("www.")
    if host == "github.com":
        label = "/".join(urlsplit(result.source_url).path.split("/")[1:3])
    # what would end the link or the cell
    return f"[{escape(label)}]({quote(result.source_url, safe='/:?#=&%+,;@~')})"


def delta(result: PublishedResult) -> str:
    """Δ as a cell: computed, and what the source prints where that differs or is all there is."""
    if result.delta is None:
        return NONE
    if result.computed_delta is None:
        return f"{signed(result.delta)} (printed)"
    printed = f" (printed: {signed(result.printed_delta or 0)})" if result.contradicts_itself else ""
    return signed(result.delta) + printed


def _cells(one: PublishedResult) -> dict[str, str]:
    removed = NONE if one.macs_reduction is None else f"{100 * one.macs_reduction:.1f}%"
    params = NONE if one.params_reduction_pct is None else f"{one.params_reduction_pct:.1f}%"
    return {
        "Method": escape(one.method),
        "Configuration": escape(one.variant or ""),
        "Dense top-1": percent(one.baseline_top1),
        "Pruned top-1": percent(one.pruned_top1),
        "Δ (pruned − dense)": delta(one),
        "FLOPs (MACs)": NONE if one.flops_million is None else count(1e6 * one.flops_million),
        "MACs removed": removed,
        "Params removed": params,
        "Counting": COUNTING.get(one.counting or "", NONE),
        "Tuned": _TUNED.get(one.finetuned or "", NONE) + (", best of test" if one.selection == "best_test" else ""),
        "Kind": KINDS[one.source_kind],
        "Source": source(one),
    }
