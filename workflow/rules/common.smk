import functools
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from daar.device import gpu
from daar.methods import discovery
from daar.report import literature
from daar.run import preflight, reuse
from daar.storage import files, provenance
from daar.suite import figures as suite_figures, reading as suites
from daar.cluster import launch, requests, slurm, watching
from daar.errors import InputError
from daar.pruning import policies


def fail(error):
    """End with one line and exit code 2, as the daar command does."""
    print(f"daar: error: {error}", file=sys.stderr)
    raise SystemExit(2)


# whether jobs go to a scheduler (`--jobs N` with an executor that is none of this machine), or this is such a job
ON_CLUSTER = workflow.nodes is not None or workflow.remote_exec

try:
    SUITE = suites.from_config(config, "suite")
    METHODS = discovery.find(SUITE.methods_dirs)
    SETTINGS = SUITE.settings
    REUSED = reuse.found(SUITE)
    # sharing is the scheduler's business there
    SLOTS_PER_GPU = gpu.export_slots(1 if ON_CLUSTER else SUITE.slots_per_gpu)
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
# as readers of the report see them, by the kinds that daar.suite.figures names
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
# GPU a job gets is its own affair (daar/device/lease.py). On a cluster the limit is that of one queue entry.
if "gpu" not in workflow.global_resources:
    granted = not workflow.remote_exec or gpu.count_gpus() > 0
    workflow.register_resource(
        "gpu",
        SUITE.processes * granted if ON_CLUSTER else gpu.count_gpus() * SLOTS_PER_GPU,
    )

if ON_CLUSTER:
    # jobs of one queue entry run one after the other, each with all that the entry has
    workflow.register_resource("turn", 1)

    resource_scopes:
        gpu="local",
        turn="local",


if workflow.remote_exec:
    gpu.export_granted()

COSTS = Path(RESULTS, "costs.json")
GPUS = workflow.global_resources["gpu"].value > 0
# a retry asks for more, but for no more than there is; in a job nothing is asked for any more
PARTITION = (workflow.resource_settings.default_resources or {}).get("slurm_partition")
CEILING = (None, None)
if ON_CLUSTER and not workflow.remote_exec:
    CEILING = slurm.ceiling(PARTITION and PARTITION.raw)
REQUESTS, UNMEASURED = requests.for_suite(SUITE, COSTS, gpus=GPUS, ceiling=CEILING)
# on one machine all processes run there
NODES = SUITE.nodes if ON_CLUSTER else 1
PER_NODE = SUITE.processes // NODES


wildcard_constraints:
    dataset="|".join(SUITE.datasets),
    network="|".join(SUITE.networks),
    variant="|".join(variant.name for variant in SUITE.variants),
    seed=r"\d+",
    recipe="[0-9a-f]{12}(-x[0-9]+)?|import-[0-9a-f]{8}",
    scope=SUITE.scope,
    target=r"own|0\.\d+(e-\d+)?",


def code_hash(*module, **given):
    """Of the code behind a result, as `daar.storage.provenance` has it, for a param: after an edit the result is made anew.

    In a job it is not worked out, which takes longer than all else that is read there: only the Snakemake that
    submits jobs compares params and notes them down.
    """
    return "" if workflow.remote_exec else provenance.code_hash(*module, **given)


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


def entry(group, *wildcards):
    """The group of jobs that share a queue entry; none on one machine, where each job stands for itself.

    Jobs of other values of these wildcards never share one, so that none of them waits for another's dense network.
    """

    def named(given):
        name = "-".join((group, *(getattr(given, wildcard) for wildcard in wildcards)))
        workflow.parent_groupids[name] = group  # what --group-components knows it by
        return name

    return named if ON_CLUSTER else None


# A training in several processes is started otherwise, which is no reason to train again: so these are resources, and
# no params
PROCESSES = {
    "gpu": SUITE.processes,
    "launch": launch.command(SUITE.processes, NODES, gpus=GPUS),
    "threads_each": lambda wildcards, threads: max(1, threads // PER_NODE),
    **launch.resources(SUITE.processes, NODES, gpus=GPUS),
}


def training_entry(group, *wildcards):
    """As `entry`, for what shares one with a training; on several nodes a training stands for itself."""
    return entry(group, *wildcards) if NODES == 1 else None


def minutes(kind, times=1):
    """How long a job of that kind may take, as a resource; a retry may take longer."""

    def asked(wildcards, attempt):
        given = dict(wildcards)
        target = given.get("target", "own")
        return REQUESTS.minutes(
            kind,
            attempt,
            given["dataset"],
            given["network"],
            given.get("variant"),
            given.get("policy"),
            None if target == "own" else float(target),
            times=times,
        )

    return asked


def memory(wildcards, attempt):
    """MB of main memory of a job, as a resource."""
    return REQUESTS.memory_mb(attempt, wildcards.dataset)


def cores_of_a_job(jobs):
    """Threads of each of so many jobs: what --max-threads says on a cluster, else a share of this machine's cores."""
    if ON_CLUSTER:
        return workflow.resource_settings.max_threads or 1
    return gpu.share_of_cores(jobs, workflow.cores)


def all_cores(wildcards):
    """What --cores says: Snakemake has nothing left for another job. On a cluster the node is asked for alone."""
    return cores_of_a_job(1)


@functools.cache
def settings_by_path():
    return {setting.path: setting for setting in SETTINGS}


def made_from(wildcards):
    """What `daar.run.reuse` knows a setting's record by."""
    folder = Path(SETTING.format(**wildcards)).relative_to(RESULTS)
    return reuse.made_from(SUITE, settings_by_path()[str(folder)])


def reused(scratch):
    """A wildcard's pattern: the settings that a kept record stands for, those of networks from scratch or all others."""
    of = settings_by_path()
    paths = [p for p in REUSED if (of[p].variant.method == "scratch_of") == scratch]
    return "|".join(map(re.escape, paths)) or "(?!)"


def threads_of_settings(wildcards):
    return cores_of_a_job(len(SETTINGS))


def threads_of_dense(wildcards):
    return cores_of_a_job(SUITE.dense_count)


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


# asked for every job
@functools.cache
def dense_folder(dataset, network, seed):
    return f"results/dense/{SUITE.dense_path(dataset, network, int(seed))}"


@functools.cache
def policy_sources(policy):
    return policies.sources(policy, SUITE.methods_dirs)


def dense_of(wildcards):
    """Folder of the dense network that a setting starts from."""
    return dense_folder(wildcards.dataset, wildcards.network, wildcards.seed)


def dense_files(wildcards):
    return [f"{dense_of(wildcards)}/model.{end}" for end in ("safetensors", "json")]


def published_weights(wildcards):
    """The file to import; none where it is not there, which stops a run (`onstart`) but not a dry run."""
    return [file for file in [SUITE.weights(wildcards.network)] if Path(file).is_file()]


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


def require_cluster():
    """Stop, or say what is uncertain, before anything is queued; `workflow.dag` is Snakemake's own."""
    asked = [dict(job.resources.items()) for job in remote_jobs(workflow.dag)]
    if not asked:
        return
    if UNMEASURED:
        print(
            f"daar: {UNMEASURED}; times and memory that jobs ask for follow from MACs. Better: on a node of the kind "
            f"that they will have, daar suite check SUITE.yaml --cluster",
            file=sys.stderr,
        )
    watching.keep_watching(workflow.executor_plugin.executor)
    if workflow.executor_plugin.name == "slurm":
        settings = workflow.executor_settings
        slurm.require_startable(asked, status_command=settings.status_command)
        if untried := slurm.require_shared_folder(asked[0], Path(RESULTS)):
            print(f"daar: {untried}", file=sys.stderr)


def remote_jobs(dag):
    """Queue entries that a run will submit: groups, and jobs that stand for themselves."""
    found = [dag.get_job_group(job) or job for job in dag.needrun_jobs()]
    return list(dict.fromkeys(job for job in found if not job.is_local))


onstart:
    try:
        preflight.require_runnable(SUITE, Path(PACKS), elsewhere=ON_CLUSTER)
        if REUSED:
            print(
                f"daar: {len(REUSED)} of {len(SETTINGS)} settings have a record in {reuse.REFERENCE / SUITE.name}, made "
                f"from the same code and settings; it stands for them. --config reuse=false runs all here",
                file=sys.stderr,
            )
        if ON_CLUSTER:
            require_cluster()
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
