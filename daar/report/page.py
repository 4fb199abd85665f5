"""report.html: one file that a reader opens offline, from the suite's folder alone.

It takes results.csv and the suite's file, and whatever lies in tables/ and figures/ beside them. Plotly draws what
shows values on hover and DataTables (from itables) sorts; both are put into the file, whose content security policy
lets a browser load nothing from anywhere. Equal inputs give equal bytes.
"""

import base64
import gzip
import importlib.resources
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from daar.errors import InputError
from daar.report import failures, fairness
from daar.report.accuracies import table
from daar.report.collect import finished, read_results
from daar.report.comparison import facts
from daar.report.context import of_suite
from daar.report.names import pair_title
from daar.report.page_plots import accuracy_macs
from daar.report.page_words import findings, limits, run_facts
from daar.report.table_text import NONE, RECONSTRUCTION, count, signed
from daar.storage.files import write_text
from daar.suite.definition import Suite, setting_path

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
# endings of the figures' file names; another stands as it is
_FIGURES = {
    "accuracy-macs": "accuracy versus MACs, in print",
    "accuracy-latency": "accuracy versus measured latency",
    "pruning-ratios": "pruning ratios over depth",
    "rank-correlation": "rank correlation between methods",
    "stability": "how many calibration images an importance needs",
    "attention": "what a method looks at, keeps and removes",
}
_LIBRARIES = {"plotly": ("plotly", "package_data/plotly.min.js"), "tables": ("itables", "html/dt_bundle.js")}
_TABLES_CSS = ("itables", "html/dt_bundle.css")


def write_page(suite: Suite, folder: Path, source: Path) -> Path:
    """Write `report.html` into a suite's folder of results.

    Args:
        suite: the suite.
        folder: holds results.csv; tables/ and figures/ are taken up where they are.
        source: the file that the suite was loaded from, YAML or JSON.

    Returns:
        The file written.

    Raises:
        InputError: a file is missing or damaged, or a comparison would not be fair; no page is written then.
    """
    everything = read_results(folder / "results.csv")
    fairness.check(everything)
    results = finished(everything)
    config = yaml.safe_load(source.read_text(encoding="utf-8"))
    titles = suite.titles()
    pairs = [
        _pair(str(dataset), str(network), rows, titles)
        for (dataset, network), rows in results.groupby(["dataset", "network"])
    ]
    stems = {pair["stem"]: pair["title"] for pair in pairs}
    figures = list(_figures(folder / "figures", stems))
    context = of_suite(suite)
    for pair in pairs:
        pair["figures"] = [figure for figure in figures if figure["pair"] == pair["stem"]]
        own = (everything["dataset"] == pair["dataset"]) & (everything["network"] == pair["network"])
        pair["facts"] = facts(everything[own], context)
        pair["full"] = _fragment(folder / "tables" / f"{pair['stem']}.html")
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            suite=suite,
            description=config.get("description", ""),
            reconstruction=RECONSTRUCTION if (results["method"] == "daar").any() else None,
            findings=[finding for pair in pairs for finding in pair["findings"]],
            facts=run_facts(results),
            limits=limits(results),
            pairs=pairs,
            targets=_targets(pairs),
            more_tables=list(_more_tables(folder / "tables", stems)),
            more_figures=[figure for figure in figures if figure["pair"] is None],
            failures=_failures(everything, titles),
            plots={pair["stem"]: pair["plot"] for pair in pairs},
            config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
            provenance=_provenance(results),
            bases=_bases(results),
            records=list(_records(suite, results, titles)),
            libraries={name: _library(*where) for name, where in _LIBRARIES.items()},
            tables_css=Markup(_file(*_TABLES_CSS).replace("</", r"<\/")),
        )
    )
    path = folder / "report.html"
    write_text(path, text)
    return path


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("daar.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _file(package: str, path: str) -> str:
    return (importlib.resources.files(package) / path).read_text(encoding="utf-8")


def _library(package: str, path: str) -> str:
    """A script, compressed, as base64: no text of it can end the element that holds it."""
    return base64.b64encode(gzip.compress(_file(package, path).encode(), mtime=0)).decode()


def _pair(dataset: str, network: str, rows: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Any]:
    """What the page's section on one (dataset, network) shows."""
    numeric = table(rows, titles)
    stem = f"{dataset}-{network}"
    return {
        "stem": stem,
        "dataset": dataset,
        "network": network,
        "title": pair_title(network, dataset),
        "daar": bool((rows["method"] == "daar").any()),
        "findings": findings(rows, titles),
        "rows": [_row(row) for row in numeric.to_dict("records")],
        "plot": accuracy_macs(rows, numeric),
    }


def _targets(pairs: list[dict[str, Any]]) -> list[str]:
    found = {(row["target_order"], row["target"]) for pair in pairs for row in pair["rows"] if row["target"]}
    return [target for _, target in sorted(found)]


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the main table: texts, and the numbers that its cells sort by."""
    is_dense = pd.isna(row["method"])
    stage = "dense" if is_dense else "tuned"
    numbers = {
        "tuned": row[f"top1_{stage}_mean"],
        "delta": None if is_dense else row["delta_top1_mean"],
        "recalibrated": None if is_dense else row["top1_recalibrated_mean"],
        "macs": 100 * row["macs_reduction_mean"],
        "params": 100 * row["params_reduction_mean"],
    }
    numbers = {name: None if value is None or pd.isna(value) else float(value) for name, value in numbers.items()}
    mean, std = numbers["tuned"], row[f"top1_{stage}_std"]
    own = bool(row["own_ratios"])
    texts = {
        "tuned": NONE if mean is None else f"{mean:.2f}" + ("" if pd.isna(std) else f" ± {std:.2f}"),
        "delta": NONE if numbers["delta"] is None else signed(numbers["delta"]),
        "recalibrated": NONE if numbers["recalibrated"] is None else f"{numbers['recalibrated']:.2f}",
        "macs": f"{numbers['macs']:.2f}% ({count(row['macs_slim_mean'])} left)",
        "params": f"{numbers['params']:.2f}% ({count(row['params_slim_mean'])} left)",
    }
    return {
        "title": row["title"] + (" (control)" if row["control"] else ""),
        "target": "" if is_dense else "own" if own else _target(row),
        "target_order": -1 if is_dense else 1000 if own else 100 * row["target"],
        "policy": NONE if is_dense else row["policy"],
        "n": int(row["n"]),
        "numbers": numbers,
        "texts": texts,
    }


def _belongs(stem: str, pairs: Mapping[str, str]) -> tuple[str | None, str]:
    """Of which pair's stem a file is, or None, and what its name says besides."""
    pair = next((pair for pair in pairs if stem.startswith(f"{pair}-")), None)
    return pair, stem if pair is None else stem.removeprefix(f"{pair}-")


def _fragment(path: Path) -> Markup | None:
    """HTML that we have written, which escapes what it shows."""
    return Markup(path.read_text(encoding="utf-8")) if path.is_file() else None


def _figures(folder: Path, pairs: Mapping[str, str]) -> Iterator[dict[str, str | None]]:
    """Every figure, once: as the smaller of its files, for pictures are smaller as PNG and lines as SVG."""
    for stem in sorted({path.stem for path in folder.glob("*") if path.suffix in _TYPES}):
        files = [folder / f"{stem}{ending}" for ending in _TYPES if (folder / f"{stem}{ending}").is_file()]
        small = min(files, key=lambda path: path.stat().st_size)
        data = base64.b64encode(small.read_bytes()).decode()
        pair, kind = _belongs(stem, pairs)
        name = _FIGURES.get(kind, kind.replace("-", " "))
        yield {"pair": pair, "name": name, "uri": f"data:{_TYPES[small.suffix]};base64,{data}"}


def _more_tables(folder: Path, pairs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The tables beside the main ones: an HTML fragment of ours where there is one, else the CSV's cells."""
    for path in sorted(folder.glob("*.csv")):
        if path.stem in pairs:
            continue
        fragment = _fragment(path.with_name(f"{path.stem}.html"))
        pair, kind = _belongs(path.stem, pairs)
        name = kind.replace("-", " ")
        whole: dict[str, Any] = {"name": name if pair is None else f"{pairs[pair]}: {name}"}
        if fragment is not None:
            yield whole | {"html": fragment}
            continue
        try:
            cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())
            raise InputError(f"{path} should be a table, but cannot be read: {why}. Make the tables anew.") from error
        if cells.empty:  # as the ledger of a data set without published results
            continue
        rows = [[_short(cell) for cell in row] for row in cells.to_numpy().tolist()]
        yield whole | {"html": None, "heads": [head.replace("_", " ") for head in cells.columns], "rows": rows}


def _short(cell: str) -> str:
    """A number as people write it, and any other text as it is."""
    try:
        return f"{float(cell):.4g}" if "." in cell else cell
    except ValueError:
        return cell


def _provenance(results: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """What the numbers were made with: every value that occurs."""
    gpus = results["hardware_gpu"].fillna("no GPU")
    machines = results["hardware_cpu"] + " (" + results["hardware_cores"].astype(str) + " cores), " + gpus
    columns = {
        "Commit": results["commit"].fillna("outside a checkout"),
        "Hardware": machines,
        "CPU threads of tuning": results["threads"].astype(str),
        "Versions": results["versions"].map(_versions),
        "Tuning recipe": results["recipe"],
        "Training recipe of the dense networks": results["train_recipe"].fillna("imported"),
    }
    return [(name, sorted(set(map(str, values)))) for name, values in columns.items()]


def _versions(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())


def _failures(results: pd.DataFrame, titles: Mapping[str, str]) -> list[dict[str, str]]:
    """The settings without a record, with their reasons."""
    return [
        {
            "setting": f"{pair_title(row['network'], row['dataset'])}, {titles.get(row['variant'], row['variant'])}, "
            f"{row['policy']}, {_target(row)}, {seeds}",
            "reason": row["failed"],
        }
        for row, seeds in failures.alike(results[results["failed"].notna()])
    ]


def _target(row: Mapping[Any, Any]) -> str:
    return "own" if pd.isna(row["target"]) else f"{100 * row['target']:g}%"


def _bases(results: pd.DataFrame) -> list[dict[str, Any]]:
    """The dense networks with their hashes."""
    columns = ["dataset", "network", "seed", "top1_dense", "base_sha256"]
    rows = results[columns].drop_duplicates(["dataset", "network", "seed", "base_sha256"]).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def record_path(row: Mapping[Any, Any]) -> str:
    """Where the record behind a row of results.csv lies, below the suite's folder."""
    target = None if pd.isna(row["target"]) else float(row["target"])
    place = (str(row["dataset"]), str(row["network"]), int(row["seed"]))
    return f"{setting_path(*place, str(row['variant']), str(row['policy']), str(row['scope']), target)}/record.json"


def _records(suite: Suite, results: pd.DataFrame, titles: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for row in results.to_dict("records"):
        yield {
            **{key: row[key] for key in ("dataset", "network", "seed", "policy")},
            "title": titles.get(row["variant"], row["variant"]),
            "target": _target(row),
            "top1": NONE if pd.isna(row["top1_tuned"]) else f"{row['top1_tuned']:.2f}",
            "path": shlex.quote(f"results/{suite.name}/{record_path(row)}"),
        }
