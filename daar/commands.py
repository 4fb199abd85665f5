"""What each command of the command line does with its arguments. Heavy modules are imported where they are needed."""

import json
from argparse import Namespace
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from daar import arguments, discovery, files, gpu, models, preflight, reuse, suite, suite_figures
from daar.cluster import costs, simulation, slurm
from daar.data import datasets
from daar.errors import InputError
from daar.pruning import policies
from daar.training import distributed, recipes
from daar.training.recipe import Recipe

if TYPE_CHECKING:
    from daar.estimate import Estimate

# what tuning does unless told otherwise: the paper suite's, HRankPlus's with Nesterov's momentum
TUNING = Recipe(epochs=150, lr=0.01, schedule="step", milestones=(50, 100), batch_size=256)


# looking


def list_names(a: Namespace) -> None:
    """`daar list`."""
    if a.what == "methods":
        rows = {name: str(m.info.get("title", "")) for name, m in discovery.find(a.methods_dir).items()}
    elif a.what == "networks":
        rows = {n.name: f"{n.title}, {n.macs / 1e6:.1f}M MACs" for n in models.NETWORKS.values()}
    elif a.what == "datasets":
        rows = {
            d.name: f"{d.title}, {d.train:,} train, {d.val:,} val, {d.test:,} test" for d in datasets.DATASETS.values()
        }
    elif a.what == "recipes":
        rows = {name: recipe.summary for name, recipe in recipes.find().items()}
    else:
        rows = policies.names(a.methods_dir)
    if a.json:
        whole = {name: recipe.to_json() for name, recipe in recipes.find().items()} if a.what == "recipes" else rows
        print(json.dumps(whole, indent=2))
        return
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {words}" for name, words in rows.items()))


def describe(a: Namespace) -> None:
    """`daar describe`: sizes, then the channel groups with who makes and who reads them."""
    from daar.stages.describe import describe, to_text

    network = models.get(a.network)
    found = describe(network, datasets.num_classes(a.dataset) if a.dataset else network.classes)
    print(json.dumps(found, indent=2) if a.json else to_text(found))


# data


def prepare_data(a: Namespace) -> None:
    """`daar data prepare`."""
    from daar.data import loading

    dataset = datasets.get(a.dataset)
    out = a.out or Path("results/data") / a.dataset
    loading.prepare(
        dataset, out, data_root=a.data_root, source=a.source, download=a.download, verify=a.verify,
        skip_corrupt=a.skip_corrupt,
    )  # fmt: skip
    source = files.read_json(out / "source.json", "the source of a packed dataset")
    how = f"index of the {source['kind']}" if dataset.stays_in_folder else f"packed from {source['kind']}"
    print(f"{dataset.title}: {how} at {source['where']} into {out}; {source['note']}")


def check_data(a: Namespace) -> None:
    """`daar data check`."""
    from daar.data import loading

    report = loading.check(a.folder)
    if a.json:
        print(json.dumps(asdict(report), indent=2))
        return
    print(f"{report.dataset}: {report.comparison}; from {report.source['kind']} at {report.source['where']}")
    for split, counts in report.counts.items():
        equal = len(set(counts.values())) == 1
        listed = [f"{name} {count:,}" for name, count in counts.items()]
        several = (
            ", ".join(listed) if len(listed) <= 20 else f"{min(counts.values()):,} to {max(counts.values()):,} each"
        )
        per_class = f"{next(iter(counts.values())):,} of each class" if equal else several
        print(f"{split}: {sum(counts.values()):,} images ({per_class})")
    print(f"mean {_numbers(report.mean)}, std {_numbers(report.std)} (of pixels in 0..1, train part)")


# training


def train(a: Namespace) -> None:
    """`daar train`."""
    models.get(a.network)
    recipe = arguments.recipe(a, Recipe())
    from daar.stages.train import train as stage

    stage(
        network=a.network,
        packs=arguments.packs(a),
        recipe=recipe,
        seed=a.seed,
        out=a.out,
        device=arguments.device(a),
        say=arguments.say(a),
    )


def finetune(a: Namespace) -> None:
    """`daar finetune`."""
    recipe = arguments.recipe(a, TUNING, "finetune")
    from daar.stages.finetune import finetune as stage

    stage(
        base=a.checkpoint,
        plan_file=a.plan,
        packs=arguments.packs(a),
        recipe=recipe,
        seed=a.seed,
        images=a.images,
        out=a.out,
        device=arguments.device(a),
        say=arguments.say(a),
    )


def import_weights(a: Namespace) -> None:
    """`daar import`."""
    from daar.stages.import_weights import import_weights as stage

    stage(
        file=a.file,
        network=a.network,
        dataset=a.dataset,
        out=a.out,
        mean=a.mean and tuple(a.mean),
        std=a.std and tuple(a.std),
        trained_on=tuple(a.trained_on),
    )
    print(f"imported {a.file} as {a.network} into {a.out}")


# pruning


def score(a: Namespace) -> None:
    """`daar score`."""
    _score(a, a.out)


def plan(a: Namespace) -> None:
    """`daar plan`."""
    _plan(a, a.importance, a.out)


def prune(a: Namespace) -> None:
    """`daar prune`."""
    scores, plan_file = a.out / "importance.safetensors", a.out / "plan.json"
    _score(a, scores)
    _plan(a, scores, plan_file)
    from daar.stages.prune import prune as stage

    error = stage(
        base=a.checkpoint, plan_file=plan_file, packs=arguments.packs(a), seed=a.seed, images=a.images, out=a.out
    )
    print(f"slim network in {a.out}: it equals the masked one to {error:.1e} of the largest logit (float64)")


def _score(a: Namespace, out: Path) -> None:
    method, options = discovery.get(a.method, a.methods_dir), arguments.options(a)
    from daar.stages.score import score as stage

    stage(
        base=a.checkpoint,
        method=method,
        options=options,
        packs=arguments.packs(a),
        seed=a.seed,
        images=a.images,
        out=out,
        device=arguments.device(a),
    )


def _plan(a: Namespace, scores: Path, out: Path) -> None:
    method, options = discovery.get(a.method, a.methods_dir), arguments.options(a)
    from daar.stages.plan import plan as stage

    made = stage(
        base=a.checkpoint,
        scores=scores,
        method=method,
        options=options,
        policy=a.policy or method.policy,
        scope=a.scope,
        target=a.macs_reduction,
        packs=arguments.packs(a),
        seed=a.seed,
        images=a.images,
        out=out,
        device=arguments.device(a),
        methods_dirs=tuple(a.methods_dir),
        round_to=a.round_to,
    )
    print(f"{made.macs_dense:,} MACs become {made.macs:,}: {100 * (1 - made.macs / made.macs_dense):.2f} % removed")


# measuring


def measure(a: Namespace) -> None:
    """`daar measure`."""
    from daar.stages.measure import measure as stage

    found = stage(folder=a.checkpoint, packs=arguments.packs(a), device=arguments.device(a))
    if a.out and distributed.is_first():
        files.write_json(a.out, found)
    if a.json:
        print(json.dumps(found, indent=2))
        return
    val = "seen in training" if found["val_seen"] else f"{found['val_top1']:.2f} %"
    images = f"{found['images']:,} test images"
    print(f"{found['network']} on {found['dataset']}: top-1 {found['top1']:.2f} % of {images}, val {val}")
    thop = f"{found['macs_thop']:,}" if found["macs_thop"] is not None else "fails"
    counters = f"closed form {found['macs_closed_form']:,}; thop, which adds BN: {thop}"
    print(f"{found['macs']:,} MACs ({counters}), {found['params']:,} parameters")


def record(a: Namespace) -> None:
    """`daar record`."""
    benchmarks = dict(item.split("=", 1) for item in a.benchmarks if "=" in item)
    if len(benchmarks) < len(a.benchmarks):
        raise InputError(f"--benchmarks takes STAGE=FILE, got {a.benchmarks}. Name the stage of each file.")
    from daar.stages.record import record as stage

    stage(
        suite=a.suite,
        variant=a.variant,
        method=a.method,
        control=a.of is not None or bool(discovery.get(a.method, a.methods_dir).info.get("control", False)),
        of=a.of,
        made_from=a.made_from,
        options=arguments.options(a),
        seed=a.seed,
        images=a.images,
        base=a.base,
        base_measured=a.base_measured,
        run=a.run_folder,
        packs=arguments.packs(a),
        out=a.out,
        device=arguments.device(a),
        benchmarks={stage_name: Path(file) for stage_name, file in benchmarks.items()},
    )


# suites


def check_suite(a: Namespace) -> None:
    """`daar suite check`."""
    found = suite.load(a.suite)
    settings = len(found.settings)
    print(f"suite {found.name!r}: {settings} settings, {', '.join(found.networks)} on {', '.join(found.datasets)}")
    preflight.require_runnable(found, a.packs, elsewhere=a.cluster)
    from daar import estimate

    device = arguments.device(a)
    cores = a.threads or gpu.count_cores()
    if a.cluster:
        _check_cluster(a, found, estimate.estimate(found, device, cores, threads=cores), device.type, cores)
        return
    kept = reuse.found(found)
    if kept:
        print(f"{len(kept)} of its settings have a record in {reuse.REFERENCE} already, and are not run again")
    expected = estimate.estimate(found, device, cores, kept=kept)
    print(f"it can run here, on {device.type} with --cores {cores}; by a few steps of each kind of work, timed now:")
    print(estimate.to_text(expected))


def _check_cluster(a: Namespace, found: suite.Suite, expected: "Estimate", device: str, threads: int) -> None:
    """Write what jobs cost, and say what so many machines like this one would make of them."""
    from daar import provenance

    of, hardware = costs.fingerprint(found), provenance.hardware()
    words = f"{hardware['gpu'] or hardware['cpu']}, {threads} threads a job"
    out = a.results / found.name / "costs.json"
    costs.write(out, costs.Measured(of, device, words, threads, expected.peak_mb, tuple(expected.costs)))
    queue = simulation.entries(found, expected.costs, slurm.components(), a.overhead)
    print(f"on machines like this one ({words}), {a.overhead:g} s for an entry to start and to be noticed:")
    print(simulation.to_text(queue, a.machines))
    print(f"{out}: what the jobs will ask a scheduler for follows from it")


def keep_suite(a: Namespace) -> None:
    """`daar suite keep`."""
    found = suite.load(a.suite)
    kept = reuse.keep(found, a.results, a.reference)
    print(f"{kept['records']} of {kept['settings']} records are in {a.reference / found.name}")


def reuse_record(a: Namespace) -> None:
    """`daar reuse`."""
    reuse.take(a.record, a.base, a.out)
    print(f"taken from {a.record}, which was made of the same")


def write_suite(a: Namespace) -> None:
    """`daar suite write`: the workflow keeps with the results what was run."""
    content = arguments.from_text(a.config, "the suite")
    suite.from_config(content, "config")
    files.write_json(a.out, content)


def report(a: Namespace) -> None:
    """`daar report`."""
    found = suite.load(a.suite)
    folder = a.results / found.name
    if a.where:
        print(_where(folder))
        return
    from daar import report as reports

    results, titles = folder / "results.csv", found.titles()
    if a.only in (None, "collect"):
        records, failed = reports.split_failed(found, a.results)
        if not a.partial:
            records, failed = [folder / setting.path / "record.json" for setting in found.settings], []
        reports.write_results(records, results, latency=found.latency, failures=failed)
    elif a.partial:
        raise InputError(f"--partial says what to collect, but --only is {a.only}. Leave one of them out.")
    if a.only in (None, "tables"):
        reports.write_tables(results, folder / "tables", reports.of_suite(found))
    if a.only in (None, "figures"):
        reports.write_figures(results, folder / "figures", titles, suite_figures.scored(found))
    if a.only in (None, "ledger"):
        reports.write_ledger(results, folder / "tables", titles, found.deviations())
    if a.only in (None, "published"):
        reports.write_published(folder / "tables", product(found.datasets, found.networks))
    if a.only in (None, "stability") and found.stability:
        pairs = [(dataset, network) for dataset in found.datasets for network in found.networks]
        controls = suite_figures.controls(found)
        reports.write_stability(folder, pairs, found.stability.variants, titles, controls)
    if a.only in (None, "attention") and (explained := suite_figures.explained(found)):
        pictures = {pair: folder / setting.path / "attention.safetensors" for pair, setting in explained.items()}
        pictures = {pair: path for pair, path in pictures.items() if path.exists() or not a.partial}
        name = next(iter(explained.values())).variant.name
        reports.write_attention(pictures, folder / "figures", titles[name])
    if a.only in (None, "page"):
        reports.write_page(found, folder, a.suite)
    if a.only is None:
        print(_where(folder))


def _where(folder: Path) -> str:
    rows = {
        "report": "report.html",
        "tables": "tables/*-*.md",
        "figures": "figures/*.png",
        "all numbers": "results.csv",
        "records": "**/record.json",
    }
    # a pair's main table has the shortest name
    found = {what: sorted(folder.glob(pattern), key=lambda p: (len(str(p)), p)) for what, pattern in rows.items()}
    if missing := [what for what, paths in found.items() if not paths]:
        raise InputError(f"{folder} has no {missing[0]} yet. Run: snakemake --cores all --configfile SUITE.yaml")
    shown = {w: str(p[0]) if len(p) == 1 else f"{p[0]} and {len(p) - 1} more" for w, p in found.items()}
    return "\n".join(f"{what + ':':<13}{where}" for what, where in shown.items())


def bench(a: Namespace) -> None:
    """`daar bench`."""
    device = arguments.device(a)
    from daar.bench import run
    from daar.bench.harness import Options

    settings = Options(device, a.steps)
    text = run(a.out, a.windows, a.only, settings, checkouts=a.published, patience=60 * a.patience, as_json=a.json)
    print(text)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
