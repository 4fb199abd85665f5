"""The table of costs."""

import pandas as pd

from daar.report import costs, markdown
from daar.report.context import Context
from tests.report.report_rows import DAAR, L1, RANDOM, change, frame, lost, named

# medians of 1, 2, 9 seconds; cifar10's train part is 45,000 images, of which scoring reads 640
TIMED = [
    row | {"seconds_finetune": seconds, "peak_memory_mib_plan": 10 * seconds}
    for row, seconds in zip(L1, (1.0, 9.0, 2.0), strict=True)
]
UNTIMED = [row | dict.fromkeys(("seconds_score", "peak_memory_mib_score"), float("nan")) for row in DAAR]
CONTEXT = Context(names=named(), sees_images=frozenset({"daar"}))


def test_numbers() -> None:
    found = costs.frame(frame(TIMED, UNTIMED, change(RANDOM, epochs=200)), CONTEXT).set_index("variant")
    assert list(found.index) == ["daar", "l1", "random"]
    assert (found.loc["l1", "seconds_finetune"], found.loc["l1", "peak_memory_mib"]) == (2.0, 90.0)
    assert list(found["epochs_finetune"]) == [150, 150, 200]
    assert found["epochs_score"].to_list() == [640 / 45_000, 0.0, 0.0]
    assert list(found["seconds_score"].isna()) == [True, False, False]
    assert list(found["n"]) == [3, 3, 3]


def test_page() -> None:
    sheet, _ = costs.costs(frame(TIMED, UNTIMED, [lost(RANDOM[0]), *RANDOM[1:]]), CONTEXT)
    text = markdown.page(sheet)
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if "|" in line
    }
    assert cells["L1"] == ["uniform", "1.00", "1.00", "2.00", "1.00", "0", "150", "90", "3"]
    assert cells["DAAR (reconstructed)"][1:] == ["–", "1.00", "1.00", "1.00", "0.0142", "150", "1", "3"]
    assert cells["random (control)"][-1] == "2"
    assert "rough" in text
    assert "reconstruction from the abstract" in text
    assert "EPYC\\_7 (2 cores), no GPU" in text
    assert "several machines" not in text


def test_what_is_not_known_is_a_dash() -> None:
    context = Context(own_program=frozenset({"l1"}))
    assert pd.isna(costs.frame(frame(L1), context)["epochs_score"][0])
    assert pd.isna(costs.frame(frame(change(L1, dataset="flowers")), Context())["epochs_score"][0])
    sheet, numbers = costs.costs(frame([lost(row) for row in L1]), Context())
    assert numbers.empty
    assert "No setting has finished" in markdown.page(sheet)


def test_several_machines_are_told() -> None:
    sheet, _ = costs.costs(frame(change(L1, 0, hardware_gpu="A100")), Context())
    text = markdown.page(sheet)
    assert "several machines" in text
    assert "A100" in text
