"""report.html: one file that a reader opens offline, from the suite's folder alone.

It shows results.csv and the suite's file, and whatever is in tables/ and figures/ next to them. Plotly draws what
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

from daar.report import failures, fairness, latex
from daar.report.collect import finished, read_results, state
from daar.report.comparison import facts, machines
from daar.report.context import of_suite
from daar.report.drawing import Look, looks_of
from daar.report.names import pair_title
from daar.report.page_files import figures, fragment, more_tables
from daar.report.page_plots import accuracy_macs_plot
from daar.report.page_rows import main_table, target_text
from daar.report.page_summary import summary
from daar.report.page_words import findings, limits, run_facts
from daar.report.table_text import RECONSTRUCTION, percent
from daar.storage import documents
from daar.storage.files import write_text
from daar.suite.definition import Suite, setting_path
from daar.suite.names import Names
from daar.suite.names import of_suite as of_rows

_LIBRARIES = {"plotly": ("plotly", "package_data/plotly.min.js"), "tables": ("itables", "html/dt_bundle.js")}
_TABLES_CSS = ("itables", "html/dt_bundle.css")


def write_page(suite: Suite, folder: Path, source: Path) -> Path:
    """Write `report.html` into a suite's folder of results.

    Args:
        suite: the suite.
        folder: holds results.csv; tables/ and figures/ are shown where there are any.
        source: the file that the suite was loaded from, YAML or JSON.

    Returns:
        The file written.

    Raises:
        InputError: a file is missing or damaged, or a comparison would not be fair; no page is written then.
    """
    everything = read_results(folder / "results.csv")
    fairness.check(everything, suite.macs_points)
    config = documents.read_yaml(source, "a suite")
    names, looks = of_rows(suite), looks_of(everything)
    pairs = [_pair(str(pair[0]), str(pair[1]), rows, suite, names, looks) for pair, rows in _by_pair(everything)]
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            suite=suite,
            description=config.get("description", ""),
            config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
            libraries={name: _library(*where) for name, where in _LIBRARIES.items()},
            escapes={"latex": latex.SPECIAL},
            tables_css=Markup(_file(*_TABLES_CSS).replace("</", r"<\/")),
            **_numbers(names, everything, pairs),
            **_files(folder, pairs),
        )
    )
    path = folder / "report.html"
    write_text(path, text)
    return path


def _by_pair(everything: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    """The (dataset, network) that have a finished setting, with all their rows."""
    for pair, rows in everything.groupby(["dataset", "network"]):
        if len(finished(rows)):
            yield pair, rows


def _pair(
    dataset: str, network: str, rows: pd.DataFrame, suite: Suite, names: Names, looks: Mapping[str, Look]
) -> dict[str, Any]:
    """What the section on one (dataset, network) shows of its rows in results.csv."""
    done, stem = finished(rows), f"{dataset}-{network}"
    main = main_table(done, names, stem)
    return {
        "stem": stem,
        "dataset": dataset,
        "network": network,
        "title": pair_title(network, dataset),
        "findings": findings(done, names),
        "rows": main["rows"],
        "versus": main["versus"],
        "state": state(done),
        "plot": accuracy_macs_plot(main["numeric"], looks, state(done)),
        "facts": facts(rows, of_suite(suite)),
    }


def _numbers(names: Names, everything: pd.DataFrame, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the other sections show of results.csv."""
    results = finished(everything)
    return {
        "reconstruction": RECONSTRUCTION if (results["method"] == "daar").any() else None,
        "summary": summary(results, names),
        "facts": run_facts(results),
        "limits": limits(results),
        "targets": _targets(pairs),
        "plots": {pair["stem"]: pair["plot"] for pair in pairs},
        "failures": _failures(everything, names),
        "provenance": _provenance(results),
        "bases": _bases(results),
        "state": state(results),
        "records": list(_records(results, names)),
    }


def _files(folder: Path, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page shows of tables/ and figures/, and the pairs with those of their own."""
    stems = {pair["stem"]: pair["title"] for pair in pairs}
    pictures = list(figures(folder / "figures", stems))
    own = [
        {
            "figures": [picture for picture in pictures if picture["pair"] == stem],
            "full": fragment(folder / "tables" / f"{stem}.html"),
        }
        for stem in stems
    ]
    return {
        "pairs": [pair | files for pair, files in zip(pairs, own, strict=True)],
        "more_tables": list(more_tables(folder / "tables", stems)),
        "more_figures": [picture for picture in pictures if picture["pair"] is None],
    }


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


def _targets(pairs: list[dict[str, Any]]) -> list[str]:
    targets = {(row["target_order"], row["target"]) for pair in pairs for row in pair["rows"] if row["target"]}
    return [target for _, target in sorted(targets)]


def _provenance(results: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """What the numbers were made with: every value that occurs."""
    columns = {
        "Commit": results["commit"].fillna("outside a checkout"),
        "Hardware": machines(results),
        "CPU threads of tuning": results["threads"].astype(str),
        "Precision of tuning": results["precision"].fillna("not recorded"),
        "Versions": results["versions"].map(_versions),
        "Tuning recipe": results["recipe"],
        "Training recipe of the dense networks": results["train_recipe"].fillna("imported"),
    }
    return [(name, sorted(set(map(str, values)))) for name, values in columns.items()]


def _versions(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())


def _failures(results: pd.DataFrame, names: Names) -> list[dict[str, str]]:
    """The settings without a record, with their reasons."""
    return [
        {
            "setting": f"{pair_title(row['network'], row['dataset'])}, {names.row(row['variant'], row['policy'])}, "
            f"{target_text(row)}, {seeds}",
            "reason": row["failed"],
        }
        for row, seeds in failures.alike(results[results["failed"].notna()])
    ]


def _bases(results: pd.DataFrame) -> list[dict[str, Any]]:
    """The dense networks with their hashes."""
    columns = ["dataset", "network", "seed", "top1_dense", "base_sha256"]
    rows = results[columns].drop_duplicates(["dataset", "network", "seed", "base_sha256"]).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def record_path(row: Mapping[Any, Any]) -> str:
    """The path of the record of a row of results.csv, below the suite's folder."""
    target = None if pd.isna(row["target"]) else float(row["target"])
    place = (str(row["dataset"]), str(row["network"]), int(row["seed"]))
    return f"{setting_path(*place, str(row['variant']), str(row['policy']), str(row['scope']), target)}/record.json"


def _records(results: pd.DataFrame, names: Names) -> Iterator[dict[str, Any]]:
    for row in results.to_dict("records"):
        yield {
            **{key: row[key] for key in ("dataset", "network", "seed", "policy")},
            "title": names.row(row["variant"], row["policy"]),
            "target": target_text(row),
            "top1": percent(row["top1_tuned"]),
            "path": shlex.quote(record_path(row)),
        }
