"""report.html: what it says, that it needs no network, and that nothing of a user's becomes markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from daar.errors import InputError
from daar.report import page, page_summary, page_words
from daar.report.table_text import RECONSTRUCTION
from daar.suite import reading
from daar.suite.definition import Suite, Variant
from tests.report.report_rows import DAAR, L1, RANDOM, change, csv, frame, lost, named, rows

CONTENT = {
    **{"suite": "paper", "description": "Words.", "datasets": ["cifar10"], "networks": ["resnet56"]},
    **{"methods": ["daar", "l1", "random"], "macs_reductions": [0.5], "seeds": [0, 1, 2], "finetune": {"epochs": 150}},
}
VERSIONS = '{"daar": "0.1.0", "torch": "2.14.1"}'
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag == "script" and self.get_starttag_text() and data.strip():
            self.scripts.setdefault(attributes.get("id"), data)
        self.text += data


def write(
    folder: Path, *groups: list[dict[str, Any]], suite: Suite | None = None, content: dict[str, Any] = CONTENT
) -> Page:
    csv(folder, *(change(group, versions=VERSIONS) for group in groups))
    (folder / "suite.json").write_text(json.dumps(content))
    return Page(
        page.write_page(suite or reading.from_config(CONTENT, "suite"), folder, folder / "suite.json").read_text()
    )


# words


def test_who_is_ahead_by_hand() -> None:
    # per seed 0.8, 0.6, 0.4: mean 0.6, standard deviation 0.2; t(0.975, 2) = 4.3027, so ± 0.4968
    ((_, text),) = page_words.findings(frame(L1, DAAR, RANDOM), named())
    assert text.startswith("ResNet-56 on CIFAR-10, 50% of the MACs removed: DAAR (reconstructed) is ahead with 93.40%")
    assert "0.60 points above L1 (95% interval +0.10 to +1.10, 3 seeds)" in text


def test_ties_are_called_ties() -> None:
    # per seed 0.8, 0.6, −0.5: mean 0.3, standard deviation 0.7, so ± 1.7389
    ((_, text),) = page_words.findings(frame(L1, rows("daar", (93.3, 93.5, 92.5))), named())
    assert "are tied, +0.30 points apart (95% interval −1.44 to +2.04, 3 seeds)" in text
    assert "ahead" not in text


def test_one_seed_or_one_method_claims_nothing() -> None:
    ((_, text),) = page_words.findings(frame(L1[:1], DAAR[:1]), named())
    assert "no interval, so this may be chance" in text
    ((_, text),) = page_words.findings(frame(L1), named())
    assert "no other method to compare it with" in text
    assert page_words.findings(frame(RANDOM), named()) == []  # a control leads nothing


def plain(sentences: list[Markup]) -> list[str]:
    return [str(sentence.striptags()) for sentence in sentences]


def test_three_sentences_say_what_who_and_what_not() -> None:
    # 50%: DAAR − L1 as above; 70%: per seed 0.8, 0.6, −0.5, so tied
    other = [change(group, target=0.7) for group in (L1, rows("daar", (93.3, 93.5, 92.5), policy="adaptive"))]
    compared, ahead, not_shown = plain(page_summary.summary(frame(L1, DAAR, RANDOM, *other), named()))
    assert compared == (
        "This page compares DAAR (reconstructed) and L1 and 1 control on ResNet-56 on CIFAR-10, with 50% and 70% of "
        "the MACs removed, over 3 seeds."
    )
    assert ahead == (
        "DAAR (reconstructed) is ahead of L1 at 50% (+0.60 points, 95% interval +0.10 to +1.10) and is tied with it "
        "at 70% (+0.30 points, 95% interval −1.44 to +2.04)."
    )
    assert not_shown == (
        "It does not show what more dense networks than those of the 3 seeds or another recipe of tuning would give, "
        "nor what the authors' own DAAR reaches."
    )


def test_many_comparisons_are_counted() -> None:
    groups = [change(group, target=t / 10) for t in range(1, 6) for group in (L1, DAAR)]
    tied = [change(group, target=0.6) for group in (L1, rows("daar", (93.3, 93.5, 92.5), policy="adaptive"))]
    _, ahead, _ = plain(page_summary.summary(frame(*groups, *tied), named()))
    assert ahead.startswith("Of 6 comparisons at equal MACs, DAAR (reconstructed) is ahead in 5 and the first two are")
    assert "tied in 1" in ahead


def test_sentences_claim_nothing_of_one_seed_one_method_or_none() -> None:
    one = change([L1[0], DAAR[0]], imported=True)
    compared, ahead, not_shown = plain(page_summary.summary(frame(one), named()))
    assert compared.endswith("over 1 seed.")
    assert "is above L1 at 50% (+0.80 points, no interval: this may be chance)" in ahead
    assert "one was imported, and the one seed varies only its tuning" in not_shown
    assert "none is ahead" in plain(page_summary.summary(frame(L1, RANDOM), named()))[1]
    assert plain(page_summary.summary(frame(), named())) == ["No setting has finished, so there is nothing to compare."]


# the file


def test_it_shows_the_numbers_and_says_that_daar_is_reconstructed(tmp_path: Path) -> None:
    whole = write(tmp_path, L1, DAAR, RANDOM)
    for text in ("Words.", "93.40 ± 0.10", "92.80 ± 0.26", "0" * 64, "50.00% (62.7M left)"):
        assert text in whole.text
    assert whole.text.count(RECONSTRUCTION) == 1
    assert "daar reproduce cifar10/resnet56/seed2/l1/uniform-all-0.5/record.json" in whole.text
    assert RECONSTRUCTION not in write(tmp_path, L1, RANDOM).text


def test_points_are_the_means(tmp_path: Path) -> None:
    drawn = json.loads(write(tmp_path, L1, DAAR).scripts["plots"])["cifar10-resnet56"]["data"]
    found = {trace["name"]: (trace["y"], trace["error_y"]["array"], trace["customdata"][0][2]) for trace in drawn}
    for name, (y, error, macs_left) in found.items():
        tuned = [row["top1_tuned"] for row in (DAAR if "DAAR" in name else L1)]
        np.testing.assert_allclose((*y, *error, macs_left), (np.mean(tuned), np.std(tuned, ddof=1), 50.0), atol=1e-6)
    assert len(found) == 2


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    whole = write(tmp_path, L1, DAAR)
    for tag, attributes in whole.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "action", "poster"):
            assert re.match(r"#|data:", attributes.get(name) or "#"), (tag, attributes)
    (policy,) = (a["content"] for t, a in whole.elements if t == "meta" and "content" in a and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    styles = (tmp_path / "report.html").read_text().split("</style>")[:2]
    assert not any(re.search(r"@import|url\(\s*['\"]?(?!data:)", style) for style in styles)


def test_hostile_text_is_shown_as_it_is(tmp_path: Path) -> None:
    base = reading.from_config(CONTENT, "suite")
    named = HOSTILE.replace("/", "")  # no name of a folder has one
    suite = replace(base, variants=(Variant(named, "l1"), *base.variants))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "odd.csv").write_text('"<b>head</b>"\n"<script>alert(1)</script>"\n')
    odd = change(L1, variant=named, commit=HOSTILE, hardware_cpu=HOSTILE)
    whole = write(tmp_path, DAAR, odd, suite=suite, content=CONTENT | {"description": HOSTILE})
    plain = write(tmp_path, DAAR, L1)
    kinds = [tag for tag, _ in whole.elements]
    assert "img" not in kinds
    assert kinds.count("script") == [tag for tag, _ in plain.elements].count("script") == 4
    assert not any(name.startswith("on") for _, attributes in whole.elements for name in attributes)
    assert whole.text.count(HOSTILE) >= 3
    assert whole.text.count(named) >= 3
    assert "<script>alert(1)</script>" in whole.text
    names = [trace["name"] for trace in json.loads(whole.scripts["plots"])["cifar10-resnet56"]["data"]]
    assert not any("<" in name for name in names)  # Plotly reads markup in names


def test_failed_settings_are_named(tmp_path: Path) -> None:
    whole = write(tmp_path, L1, DAAR[:2], [lost(DAAR[2], "the loss is <nan>")])
    assert "policy" not in whole.text
    assert re.search(r"ResNet-56 on CIFAR-10, DAAR.*, 50%, seed 2: the loss is <nan>", whole.text)


def test_tables_and_figures_beside_it_are_taken_up(tmp_path: Path) -> None:
    for name, text in {
        "tables/cifar10-resnet56-costs.csv": "variant,seconds\nl1,1.23456\n",
        "tables/ledger.csv": "ours,published\n93.1,93.2\n",
        "tables/cifar10-resnet56-published.csv": "a,b\n",
        "tables/ledger.html": "<section><p>of ours</p></section>",
        "figures/cifar10-resnet56-accuracy-macs.svg": "<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        "figures/cifar10-resnet56-accuracy-macs.png": "x" * 1000,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    whole = write(tmp_path, L1)
    assert "ResNet-56 on CIFAR-10: costs" in whole.text
    assert "1.235" in whole.text
    assert "published" not in whole.text  # empty
    assert "of ours" in whole.text
    assert "93.1" not in whole.text  # the fragment stands for the CSV
    (image,) = (attributes["src"] for tag, attributes in whole.elements if tag == "img")
    assert image is not None
    assert image.startswith("data:image/svg+xml;base64,")  # once, as the smaller file


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path, L1, DAAR)
    first = (tmp_path / "report.html").read_bytes()
    write(tmp_path, L1, DAAR)
    assert (tmp_path / "report.html").read_bytes() == first
    assert len(first) < 10e6


def test_every_row_leads_to_its_record() -> None:
    suite = reading.from_config(CONTENT | {"macs_reductions": [0.5, 0.841]}, "suite")
    for setting in suite.settings:
        place = {"dataset": setting.dataset, "network": setting.network, "seed": setting.seed}
        row = place | {"policy": setting.policy, "scope": "all", "target": setting.target}
        assert page.record_path(row | {"variant": setting.variant.name}) == f"{setting.path}/record.json"


def test_without_results_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.csv.*Collect the records again"):
        page.write_page(reading.from_config(CONTENT, "suite"), tmp_path, tmp_path / "suite.json")
    assert not (tmp_path / "report.html").exists()


def test_a_page_of_untuned_networks_says_so(tmp_path: Path) -> None:
    text = write(tmp_path, *(change(group, epochs=0) for group in (L1, DAAR))).text
    for words in (
        *("not tuned", "once BN statistics are recalibrated", "Nothing was tuned", "Untuned top-1"),
        *("Test top-1, untuned (%)", "Accuracy without tuning", "or tuning would give"),
    ):
        assert words in text
    assert "after the last epoch" not in text
    assert "Before tuning" not in text
    assert "Tuned top-1" not in text.split("Every record")[1]
    (tmp_path / "imported").mkdir()
    imported = write(tmp_path / "imported", *(change(group, epochs=0, imported=True) for group in (L1, DAAR))).text
    assert "one was imported, and the 3 seeds vary only the calibration images" in imported
    assert "seeds vary the calibration images, not its training" in imported
    assert 'Tuned top-1</th><th scope="col">vs' not in text
