"""The DAG as Snakemake sees it, without running a job."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml

from daar.methods import discovery
from daar.report import literature
from daar.run import reuse
from daar.suite import definition, reading
from tests.report.test_collect import of_setting, record
from tests.run.test_reuse import write_plan
from tests.workflow import dry_runs
from tests.workflow.dry_runs import ROOT

CONFIG = ROOT / "workflow" / "config"


def snakemake(
    *arguments: str, cwd: Path, root: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it as its command does; dry runs in forks of one process."""
    options = ["--snakefile", str(root / "Snakefile"), "--cores", "2", *arguments]
    environment = {**os.environ, **(environment or {})}
    if "-n" in arguments and root == ROOT and (done := dry_runs.ask(options, cwd, environment)):
        return done
    command = [sys.executable, "-m", "snakemake", *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


def dry_run(*arguments: str, cwd: Path, root: Path = ROOT) -> dict[str, int]:
    """Rule → number of jobs."""
    done = snakemake("-n", "--quiet", "rules", *arguments, cwd=cwd, root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    table = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in table}


def expected(found: definition.Suite) -> dict[str, int]:
    """The jobs that a suite stands for, counted from its file."""
    settings, seeds = len(found.settings), len(found.seeds)
    pairs = len(found.datasets) * len(found.networks)
    scores = {f"score_{v.method}": 0 for v in found.variants}
    for variant in found.variants:
        scores[f"score_{variant.method}"] += pairs * seeds
    jobs = {
        **{"pack": len(found.datasets), "train": pairs * seeds, "measure": pairs * seeds, **scores},
        **{"plan": settings, "finetune": settings, "record": settings},
        **{"suite": 1, "collect": 1, "tables": 1, "ledger": 1, "page": 1, "all": 1},
        # every kind of figure; the one of tuning needs epochs
        **dict.fromkeys(("figure_accuracy_macs", "figure_differences", "figure_accuracy_costs"), 1),
        **dict.fromkeys(("figure_pruning_ratios", "figure_rank_correlation"), 1),
        **({"figure_tuning_curves": 1} if found.finetune.epochs else {}),
        **({"figure_accuracy_latency": 1} if found.latency else {}),
        # one job, where a network has published results on a dataset
        **({"published": 1} if set(product(found.datasets, found.networks)) & literature.pairs() else {}),
        **({"latency": settings} if found.latency else {}),
        **{"explain": pairs, "attention": 1},  # DAAR is in every suite that is tried here
    }
    return {**jobs, "total": sum(jobs.values())}


def test_filters_are_scored_and_what_is_tuned_measured_before_more_is_tuned(tmp_path: Path) -> None:
    done = snakemake("-n", "--configfile", str(CONFIG / "demo.yaml"), cwd=tmp_path)
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.+\n)*)", done.stdout, re.MULTILINE)
    first = {rule for rule, about in jobs if "priority: 1\n" in about}
    scores = {f"score_{variant.method}" for variant in reading.load(CONFIG / "demo.yaml").variants}
    assert first == {"measure", "record", *scores}, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_the_dag_is_what_the_file_says(tmp_path: Path, name: str) -> None:
    file = CONFIG / f"{name}.yaml"
    arguments = [] if name == "paper" else ["--configfile", str(file)]  # the paper suite is the default
    assert dry_run(*arguments, cwd=tmp_path) == expected(reading.load(file))


def test_only_methods_of_several_variants_have_a_table_of_options(tmp_path: Path) -> None:
    done = snakemake("-n", "--configfile", str(CONFIG / "ablations-digits.yaml"), cwd=tmp_path)
    (written,) = re.findall(r"^rule tables:\n(?:    .*\n)*?    output: (.*)$", done.stdout + done.stderr, re.MULTILINE)
    forms, pages = ("md", "csv", "tex", "html"), ("", "-costs", "-ablation-daar")
    assert set(written.split(", ")) == {
        *(f"results/ablations-digits/tables/digits-resnet20{page}.{form}" for page in pages for form in forms),
        "results/ablations-digits/tables/digits-resnet20-differences.csv",
    }


def test_controls_take_another_s_plan_and_need_no_score(tmp_path: Path) -> None:
    controls = {"at": {"random_at": "l1"}, "anew": {"scratch_of": "l1"}}
    content = {
        **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.3, 0.5]},
        **{"seeds": [0, 1], "finetune": {"epochs": 1}, "methods": ["l1"], "variants": controls},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    jobs = dry_run("--configfile", "tiny.yaml", cwd=tmp_path)
    assert (jobs["score_l1"], jobs["plan"], jobs["random_at"], jobs["scratch"]) == (2, 4, 4, 4)
    assert (jobs["finetune"], jobs["record"], jobs["record_scratch"]) == (8, 8, 4)


def test_nothing_of_the_default_suite_leaks_into_another(tmp_path: Path) -> None:
    """Snakemake merges configs key by key; a suite's own config must come out as it is in its file."""
    file = tmp_path / "tiny.yaml"
    content: dict[str, object] = {
        "suite": "tiny",
        "datasets": ["digits"],
        "networks": ["resnet20"],
        "macs_reductions": [0.5],
        "seeds": [0],
    }
    content["finetune"] = {"epochs": 1}
    file.write_text(yaml.safe_dump(content))
    done = snakemake("results/tiny/suite.json", "-n", "-p", "--configfile", str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = re.search(r"suite write '(\{.*\})'", done.stdout + done.stderr)
    assert written
    assert yaml.safe_load(written[1]) == content


def test_config_on_the_command_line_keeps_the_default_suite(tmp_path: Path) -> None:
    assert dry_run("--config", "allow_cpu=true", cwd=tmp_path)["train"] == 9


def test_the_paper_suite_needs_data_and_a_gpu_to_run_but_not_to_be_planned(tmp_path: Path) -> None:
    # a proxy that refuses at once: no network
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {"CUDA_VISIBLE_DEVICES": "", "DAAR_DATA_ROOT": str(tmp_path), **offline}
    done = snakemake(cwd=tmp_path, environment=environment)
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    for part in (
        "daar: error: suite 'paper' cannot run here",
        "CIFAR-10 is not there",
        str(tmp_path),
        "no GPU",
        "hours",
        "daar run demo",
        "allow_cpu=true",
    ):
        assert part in last, part
    assert not (tmp_path / "results").exists()


def test_weights_that_are_not_there_stop_a_run_but_not_a_dry_run(tmp_path: Path, digits: Path) -> None:
    shutil.copytree(digits, tmp_path / "results" / "data" / "digits")
    entry = {"file": "a.th", "url": "https://example.org/a.th"}
    content = {
        **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "methods": ["l1"], "seeds": [0]},
        **{"macs_reductions": [0.5], "finetune": {"epochs": 1}, "base": {"resnet20": entry}, "allow_cpu": True},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    environment = {"DAAR_DATA_ROOT": "root"}
    done = snakemake("--configfile", "tiny.yaml", cwd=tmp_path, environment=environment)
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert "no weights for resnet20: looked for a.th and root/a.th; fetch them from https://example.org/a.th" in last
    assert last.endswith("Run `daar run demo` for a small suite, or run this one once its data are there.")
    assert not (tmp_path / "results" / "dense").exists()
    assert dry_run("--configfile", "tiny.yaml", cwd=tmp_path)["import_weights"] == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("methods=[l1,hrank2]", f"unknown method in suite 'hrank2'; there are: {', '.join(discovery.find())}."),
        ("epocs=3", "known keys are"),
        ("macs_reductions=[1.5]", "macs_reductions[0]: 1.5"),
        ("networks=[resnet21]", "unknown network 'resnet21'"),
        ("datasets=[mnist]", "unknown dataset 'mnist'"),
    ],
)
def test_a_wrong_suite_is_one_line_and_exit_code_2(tmp_path: Path, config: str, said: str) -> None:
    done = snakemake("-n", "--config", config, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_one_more_method_is_a_folder_with_two_files(tmp_path: Path) -> None:
    """Dropped into baselines/ and nothing else touched: a suite that names no methods has it throughout."""
    lines = (ROOT / "workflow/config/demo.yaml").read_text().splitlines()
    suite = tmp_path / "all.yaml"
    suite.write_text("\n".join(line for line in lines if not line.startswith("methods:")))
    count = len(discovery.find())
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("Snakefile", "environment.yml", "daar", "baselines", "workflow"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name)
        else:
            shutil.copy(ROOT / name, root / name)
    before = dry_run("--configfile", str(suite), cwd=tmp_path, root=root)
    folder = root / "baselines" / "l3"
    folder.mkdir()
    method = (root / "baselines" / "l1" / "method.py").read_text()
    (folder / "method.py").write_text(method.replace('name="l1"', 'name="l3"').replace(".abs()", ".square()"))
    (folder / "rule.smk").write_text((root / "baselines" / "l1" / "rule.smk").read_text().replace("l1", "l3"))
    after = dry_run("--configfile", str(suite), cwd=tmp_path, root=root)
    assert after["score_l3"] == 3
    assert after["finetune"] == before["finetune"] * (count + 1) // count
    assert after["total"] == before["total"] + 3 + 3 * before["finetune"] // count


def test_a_method_may_be_any_program_that_writes_a_plan(tmp_path: Path) -> None:
    folder = tmp_path / "more" / "outsider"
    folder.mkdir(parents=True)
    (folder / "method.py").write_text('INFO = MethodInfo(name="outsider", title="Out", citation="x", uses=())')
    (folder / "rule.smk").write_text(
        "ruleorder: plan_outsider > plan\n\n"
        "rule plan_outsider:\n    input: dense_files\n    output: f'{SETTING}/plan.json'\n"
        "    wildcard_constraints: variant=variants_of('outsider')\n    shell: 'outsider {input} > {output}'\n"
    )
    content = {
        **{"suite": "tiny", "datasets": ["digits"], "networks": ["resnet20"], "macs_reductions": [0.3, 0.5]},
        **{"seeds": [0, 1], "finetune": {"epochs": 1}, "methods": ["l1", "outsider"], "reuse": True},
        "methods_dirs": [str(tmp_path / "more")],
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    jobs = dry_run("--configfile", "tiny.yaml", cwd=tmp_path)
    assert (jobs["score_l1"], jobs["plan"], jobs["plan_outsider"], jobs["finetune"]) == (2, 4, 4, 8)

    # a kept plan comes first
    found = reading.load(tmp_path / "tiny.yaml")
    setting = next(s for s in found.settings if s.variant.name == "outsider")
    kept = tmp_path / reuse.REFERENCE / "tiny" / setting.path
    kept.mkdir(parents=True)
    named = {**of_setting(setting, "tiny"), "made_from": reuse.made_from(found, setting)}
    (kept / "record.json").write_text(json.dumps(record(**named)))
    write_plan(kept)
    jobs = dry_run("--configfile", "tiny.yaml", cwd=tmp_path)
    assert (jobs["plan"], jobs["plan_outsider"], jobs["finetune"], jobs["reuse"]) == (4, 3, 7, 1)


def test_every_rule_of_a_method_is_named_after_its_folder() -> None:
    for name, method in discovery.find().items():
        assert f"rule score as score_{name} with" in method.rule.read_text()
        assert f'variants_of("{name}")' in method.rule.read_text()


def test_without_a_gpu_jobs_ask_for_none_and_with_one_they_take_turns(tmp_path: Path) -> None:
    demo = ["--configfile", str(CONFIG / "demo.yaml")]
    for visible, asked in (("", "gpu=0"), ("0", "gpu=1")):
        done = snakemake("-n", *demo, "--until", "train", cwd=tmp_path, environment={"CUDA_VISIBLE_DEVICES": visible})
        resources = re.findall(r"rule train:.*?resources: (.*?)\n", done.stdout + done.stderr, re.DOTALL)
        assert resources
        assert all(asked in line for line in resources)
