# What only Snakemake can say; whatever else rules ask is in daar/run: `dag` (files, patterns, params), `jobs` (resources).
import json
import sys

sys.path.insert(0, workflow.basedir)
from daar.data.pack_files import SOURCE, SPLITS, split_file
from daar.errors import InputError
from daar.run import handlers
from daar.run.dag import Dag
from daar.run.forks import starting
from daar.run.jobs import Jobs, Where, export_environment, gpu_limit
from daar.suite import figures, paths, reading
from daar.suite.definition import CONTROLS

# whether jobs go to a scheduler (`--jobs N` with an executor that is none of this machine), or this is such a job
ON_CLUSTER = workflow.nodes is not None or workflow.remote_exec
WHERE = Where(
    on_cluster=ON_CLUSTER,
    in_job=workflow.remote_exec,
    cores=workflow.resource_settings.cores,
    max_threads=workflow.resource_settings.max_threads,
)

try:
    reading.require_plain(workflow.configfiles)
    SUITE = reading.from_config(config, "suite")
    dag = Dag(SUITE, in_job=workflow.remote_exec)
    SLOTS_PER_GPU = export_environment(SUITE, WHERE)
    handlers.begin(workflow)
except InputError as error:
    handlers.fail(error)

# `gpu` counts slots. Without a limit Snakemake would hand them out without end; `--resources gpu=N` still wins. Which
# GPU a job gets is its own affair (daar/device/lease.py).
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", gpu_limit(SUITE, WHERE, SLOTS_PER_GPU))

if ON_CLUSTER:
    # jobs of one queue entry run in turn, each with all that the entry has
    workflow.register_resource("turn", 1)

    resource_scopes:
        gpu="local",
        turn="local",


GPUS = workflow.global_resources["gpu"].value > 0
PARTITION = (workflow.resource_settings.default_resources or {}).get("slurm_partition")
jobs = Jobs(SUITE, WHERE, gpus=GPUS, partition=PARTITION and PARTITION.raw)

# absolute, since rules inherit it into other folders; Snakemake formats it with a job's wildcards
ENV = f"{workflow.basedir}/environment.yml".replace("{", "{{").replace("}", "}}")
# rules of methods outside this repository use these as well
RESULTS, DENSE, VARIANT = dag.results, dag.dense_network, dag.variant
SETTING, dense_files, variants_of = dag.setting, dag.dense_files, dag.variants_of


wildcard_constraints:
    **dag.wildcards,


def entry(group, *wildcards):
    """The group of jobs that share a queue entry, none on one machine, where each job is on its own.
    Jobs of other values of these wildcards never share one, so that none of them waits for another's dense network.
    """

    def named(given):
        name = "-".join((group, *(getattr(given, wildcard) for wildcard in wildcards)))
        workflow.parent_groupids[name] = group  # what --group-components knows it by
        return name

    return named if ON_CLUSTER else None


def training_entry(group, *wildcards):
    """As `entry`, for what shares one with a training; on several nodes a training has its own."""
    return entry(group, *wildcards) if jobs.nodes == 1 else None


def figure(kind, pair):
    """A figure's SVG, with what the report says of it."""
    return report(
        f"{RESULTS}/figures/{pair}-{kind}.svg",
        category="Figures",
        caption=f"../report/{kind}.rst",
        labels={"figure": figures.TITLES[kind], "of": pair},
    )


def table(what, pair, caption):
    """A table's Markdown, with what the report says of it; `what` is empty for the main one, `pair` for the suite's."""
    return report(
        f"{RESULTS}/tables/{'-'.join(filter(None, (pair, what)))}.md",
        category="Tables",
        caption=f"../report/{caption}.rst",
        labels={
            "table": what.replace("-", " ") or "accuracy",
            "of": pair or "the whole suite",
        },
    )


onstart:
    try:
        handlers.check(dag, on_cluster=ON_CLUSTER)
        handlers.tell_policies(dag, workflow)
        handlers.let_signals_end(workflow)
        if ON_CLUSTER:
            handlers.check_cluster(dag, workflow, jobs.unmeasured)
        else:
            handlers.start_at_any_rate(workflow)
            starting.start()
    except InputError as error:
        handlers.fail(error)


onerror:
    handlers.tell_failures(workflow, log)
