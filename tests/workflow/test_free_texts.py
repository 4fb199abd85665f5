"""A suite's free texts reach programs as they are: no shell runs them, and Snakemake takes none for a pattern."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.workflow.test_dag import snakemake

ROOT = Path(__file__).resolve().parents[2]
# each would leave a file where a shell, or Python's or Snakemake's formatting, took part of it for its own
PAYLOADS = (
    "x'; touch PWNED; echo '",
    "a b;touch PWNED;",
    "$(touch PWNED)",
    "`touch PWNED`",
    'a"; touch PWNED; "',
    "-rf",
    "--help",
    "line\ntouch PWNED",
    "{x} {input} {{y}}",
    "* ? [a] ~ #c",
    "back\\slash\\n $HOME ${x}",
    "über ✓ %s %(x)s",
)
ALL = "-a'b\" $(touch PWNED) `touch PWNED`;touch PWNED;\ntouch PWNED {x} {{y}} %s \\n * ü ✓"


def suite(folder: Path, text: str, weights: Path) -> Path:
    """Write a suite whose every free text is `text`, with the files and the method that it names, in such a folder."""
    here = folder / text
    method = here / text / "odd"
    method.parent.mkdir(parents=True)
    shutil.copytree(ROOT / "baselines" / "l1", method, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("method.py", "rule.smk"):
        own = (method / name).read_text().replace('"l1"', '"odd"').replace("score_l1", "score_odd")
        own = own.replace("layers: Sequence[str])", "layers: Sequence[str], *, text: str)")
        (method / name).write_text(own)
    shutil.copy(weights, here / f"{text}.safetensors")
    content = {
        "suite": "odd",
        "description": text,
        "datasets": ["digits"],
        "networks": ["resnet20"],
        "variants": {"odd": {"method": "odd", "options": {"text": text}}, "at": {"random_at": "odd"}},
        "macs_reductions": [0.5],
        "seeds": [0],
        "calibration_images": 64,
        "finetune": {"epochs": 0, "lr": 0.1},
        "data_root": text,
        "base": {"resnet20": {"file": f"{text}.safetensors", "url": text}},
        "methods_dirs": [text],
    }
    (here / "suite.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return here


def executed(folder: Path) -> list[Path]:
    return list(folder.rglob("PWNED*"))


def test_a_suite_of_odd_texts_runs_to_its_page(dense: Path, tmp_path: Path) -> None:
    here = suite(tmp_path, ALL, dense / "model.safetensors")
    done = snakemake("--configfile", "suite.yaml", cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not executed(tmp_path)
    assert (here / "results/odd/report.html").is_file()
    assert json.loads((here / "results/odd/suite.json").read_text())["description"] == ALL
    (record,) = here.glob("results/odd/digits/resnet20/seed0/odd/*/record.json")
    assert json.loads(record.read_text())["options"] == {"text": ALL}
    (about,) = here.glob("results/dense/digits/resnet20/import-*/seed0/model.json")
    assert "touch" in about.read_text()  # where the weights are from, as it was said
    again = snakemake("--configfile", "suite.yaml", "-n", cwd=here)
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.parametrize("text", [pytest.param(text, marks=pytest.mark.slow) for text in PAYLOADS])
def test_a_text_is_one_word_of_a_command(text: str, dense: Path, tmp_path: Path) -> None:
    here = suite(tmp_path, text, dense / "model.safetensors")
    planned = snakemake("--configfile", "suite.yaml", "-n", "-p", cwd=here)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    said = planned.stdout + planned.stderr
    for word in (f"{text}.safetensors", f"--methods-dir={text}"):
        assert f" {shlex.quote(word)} " in said
    options = json.dumps({"text": text})
    assert f" {shlex.quote(f'--options={options}')} " in said
    assert not executed(tmp_path)
