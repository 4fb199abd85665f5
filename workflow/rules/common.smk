import json
import re
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from daar import (
    discovery,
    files,
    gpu,
    literature,
    preflight,
    provenance,
    suite as suites,
    suite_figures,
)
from daar.errors import InputError
from daar.pruning import policies


def fail(error):
    """End with one line and exit code 2, as the daar command does."""
    print(f"daar: error: {error}", file=sys.stderr)
    raise SystemExit(2)


try:
    SUITE = suites.from_config(config, "suite")
    METHODS = discovery.find(SUITE.methods_dirs)
    SETTINGS = SUITE.settings
    SLOTS_PER_GPU = gpu.export_slots(SUITE.slots_per_gpu)
except InputError as error:
    fail(error)

RESULTS = f"results/{SUITE.name}"
PACKS = "results/data"
DENSE = "results/dense/{dataset}/{network}/{recipe}/seed{seed}"
VARIANT = f"{RESULTS}/{{dataset}}/{{network}}/seed{{seed}}/{{variant}}"
SETTING = f"{VARIANT}/{{policy}}-{{scope}}-{{target}}"
KINDS = suite_figures.kinds(SUITE)
SCORED = suite_figures.scored(SUITE)
EXPLAINED = suite_figures.explained(SUITE)
# as readers of the report see them, by the kinds that daar.suite_figures names
FIGURES = {
    "accuracy-macs": "Accuracy and MACs",
    "pruning-ratios": "Pruning ratios over depth",
    "tuning-curves": "Tuning curves",
    "rank-correlation": "Rank correlation between methods",
    "accuracy-latency": "Accuracy and latency",
    "attention": "Attention pictures",
}
# absolute, since rules inherit it into other folders
ENV = f"{workflow.basedir}/environment.yml"

discovery.export_interpreter()

# `gpu` counts slots. Without a limit Snakemake would hand them out without end; `--resources gpu=N` still wins. Which
# GPU a job gets is its own affair (daar/lease.py)
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", gpu.count_gpus() * SLOTS_PER_GPU)


wildcard_constraints:
    dataset="|".join(SUITE.datasets),
    network="|".join(SUITE.networks),
    variant="|".join(variant.name for variant in SUITE.variants),
    seed=r"\d+",
    recipe="[0-9a-f]{12}|import-[0-9a-f]{8}",
    scope=SUITE.scope,
    target=r"own|0\.\d+(e-\d+)?",


def variants_of(method):
    """Regular expression of the suite's variants that use a method; matches nothing where there are none."""
    return (
        "|".join(re.escape(v.name) for v in SUITE.variants if v.method == method)
        or "(?!)"
    )


def variants_but(*kinds):
    """Regular expression of the suite's variants but the controls of these kinds."""
    return (
        "|".join(re.escape(v.name) for v in SUITE.variants if v.method not in kinds)
        or "(?!)"
    )


def plan_of_origin(wildcards):
    """The plan of the variant whose widths a control takes."""
    origin = SUITE.variant(wildcards.variant).of
    return f"{SETTING}/plan.json".format(**{**wildcards, "variant": origin})


def method_of(wildcards):
    return METHODS[SUITE.variant(wildcards.variant).method]


def method_options(wildcards):
    """The arguments that tell a stage which method, with which options, from which folders."""
    variant = SUITE.variant(wildcards.variant)
    options = json.dumps(dict(variant.options))
    folders = " ".join(f"--methods-dir '{folder}'" for folder in SUITE.methods_dirs)
    of = f"--of '{variant.of}'" if variant.of else ""
    return f"--method {variant.method} --options '{options}' {of} {folders}".rstrip()


def all_cores(wildcards):
    """What --cores says: Snakemake has nothing left for another job."""
    return workflow.cores


def threads_of_settings(wildcards):
    return gpu.share_of_cores(len(SETTINGS), workflow.cores or 1)


def threads_of_dense(wildcards):
    return gpu.share_of_cores(SUITE.dense_count, workflow.cores or 1)


def plan_threads(wildcards):
    """A policy that a method brings may run the network; ours only count."""
    brought = {m.policy for m in METHODS.values() if m.plans is not None}
    return threads_of_settings(wildcards) if wildcards.policy in brought else 1


def packs_of(wildcards):
    return expand(
        f"{PACKS}/{wildcards.dataset}/{{file}}",
        file=["train.safetensors", "val.safetensors", "source.json"],
    )


def test_pack_of(wildcards):
    return f"{PACKS}/{wildcards.dataset}/test.safetensors"


def dense_of(wildcards):
    """Folder of the dense network that a setting starts from."""
    path = SUITE.dense_path(wildcards.dataset, wildcards.network, int(wildcards.seed))
    return f"results/dense/{path}"


def dense_files(wildcards):
    return [f"{dense_of(wildcards)}/model.{end}" for end in ("safetensors", "json")]


def first_dense_files(wildcards):
    """The dense network of the suite's first seed."""
    path = SUITE.dense_path(wildcards.dataset, wildcards.network, SUITE.seeds[0])
    return [f"results/dense/{path}/model.{end}" for end in ("safetensors", "json")]


def for_report(kind, table):
    """A figure's SVG, with what the report says of it."""
    return report(
        f"{RESULTS}/figures/{table}-{kind}.svg",
        category="Figures",
        caption=f"../report/{kind}.rst",
        labels={"figure": FIGURES[kind], "of": table},
    )


def table_for_report(what, of, caption):
    """A table's Markdown, with what the report says of it; `what` is empty for the main one."""
    name = "-".join(filter(None, (of, what)))
    return report(
        f"{RESULTS}/tables/{name}.md",
        category="Tables",
        caption=caption,
        labels={
            "table": what.replace("-", " ") or "accuracy",
            "of": of or "the whole suite",
        },
    )


onstart:
    try:
        preflight.require_runnable(SUITE, Path(PACKS))
    except InputError as error:
        fail(error)


onerror:
    # a job's own last line says what to do; repeat it where the user is looking
    text = "".join(Path(file).read_text() for file in log)
    logs = re.findall(r"^    log: (\S+) \(check log", text, re.MULTILINE)
    for path in dict.fromkeys(
        logs
    ):  # a job that was tried again is there several times
        if Path(path).exists() and (lines := Path(path).read_text().splitlines()):
            print(f"{path}: {lines[-1]}", file=sys.stderr)
