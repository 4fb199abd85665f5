"""Prune a network of each of timm's families by L1, and by Torch-Pruning next to it; print a table as Markdown.

    python -m benchmarks.timm_table --rows results/timm.jsonl [NAME …] > docs/timm.md

Each network runs in a process of its own, with limits of time and memory; its row is appended to the file of rows, and
networks that have one are not run again. Weights and statistics are random: exactness does not depend on them.
timm and Torch-Pruning belong to the extra `networks`.
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import resource
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.hook_check import EXACT, checked
from benchmarks.timm_networks import CNNS, HYBRIDS
from benchmarks.torch_pruning import CLASSES, RATIOS, macs_of, pruned
from daar.errors import InputError
from daar.methods import discovery
from daar.pruning.folding import folded
from daar.pruning.groups import ChannelGraph
from daar.pruning.plan import Plan
from daar.pruning.planning import uniform_plan
from daar.pruning.proof import slim_error
from daar.pruning.repairing import proven_graph
from daar.pruning.scoring import Batch, score
from daar.pruning.slim import slim

IMAGES = 2
TARGETS = (0.5, *(percent / 100 for percent in range(48, 0, -2)))
SECONDS, BYTES = 300, 7 << 30
SIDES = ("daar", "torch-pruning")


def build(name: str, pixels: int) -> tuple[nn.Module, Tensor]:
    """A network with random weights, and statistics in the range of trained ones; and its images."""
    import timm

    torch.manual_seed(0)
    configured: Any = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = {} if name in CNNS or pixels == configured.input_size[-1] else {"img_size": pixels}
    try:
        model = timm.create_model(name, num_classes=CLASSES, **sized)
    except TypeError:
        model = timm.create_model(name, num_classes=CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                if parameter.dim() > 1 and not bool(parameter.any()):
                    parameter.normal_(0, 0.05)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                if module.weight is not None:
                    module.weight.uniform_(0.5, 1.5)
    return model.eval(), torch.randn(IMAGES, 3, pixels, pixels)


def by_daar(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """Half of the MACs, or as much as is in reach; slim against masked by daar's proof and by hooks.

    Convs first; where those are not enough, hidden units of linear layers too; then with computed weights folded.
    """
    row = _by_daar(model, images, ("all", "units"))
    if row.get("removed", 0) < 0.5:
        plain, names = folded(model, images)
        if names and (other := _by_daar(plain, images, ("all", "units"))).get("removed", 0) > row.get("removed", 0):
            return other | {"notes": f"{len(names)} computed weights folded; {other['notes']}".rstrip("; ")}
    return row


def _by_daar(model: nn.Module, images: Tensor, scopes: tuple[str, ...]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        graph = proven_graph(model, images)
    except InputError as refusal:
        return {"outcome": "refused", "why": str(refusal), "notes": str(refusal)}
    plan, why = _planned(model, graph, images, scopes)
    if plan is None:
        return {"outcome": "refused", "why": why, "notes": _notes(graph)}
    removed = plan.removed(graph)
    slimmed = slim(model, graph, removed)
    error = slim_error(model, slimmed, graph, removed, images)
    seconds = time.perf_counter() - start
    verdict = checked(model, slimmed, images)
    dense, left = macs_of(model, images), macs_of(slimmed, images)
    return {
        "outcome": "pruned",
        "scope": plan.scope,
        "removed": 1 - plan.macs / plan.macs_dense,
        "counted": 1 - left / dense,
        "macs": plan.macs_dense,
        "slim_error": error,
        "error": verdict.error,
        "skipped": verdict.skipped,
        "seconds": seconds,
        "trains": _trains(slimmed, images),
        "notes": _notes(graph),
    }


def _planned(model: nn.Module, graph: ChannelGraph, images: Tensor, scopes: tuple[str, ...]) -> tuple[Plan | None, str]:
    """The highest target in reach, in the first scope that has it; or None, and why."""
    batch = Batch(images, torch.zeros(len(images), dtype=torch.int64))
    scores = {scope: score(model, batch, graph, discovery.get("l1"), {}, 0, scope) for scope in scopes}
    why = ""
    for target in TARGETS:
        for scope in scopes:
            try:
                return uniform_plan(graph, scores[scope], scope, target), ""
            except InputError as error:
                why = str(error)
    return None, why


def _trains(slimmed: nn.Module, images: Tensor) -> bool | str:
    try:
        sum(out.sum() for out in [slimmed.train()(images)] if isinstance(out, Tensor)).backward()  # type: ignore[union-attr]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:160]
    return True


def _notes(graph: ChannelGraph) -> str:
    """What was repaired, and which convs stay whole, by their share of the MACs."""
    repairs = graph.repairs
    notes = [f"{kind}.{name} changed" for kind, name in repairs.attributes]
    notes += [f"read otherwise: {_where(source)}" for source in repairs.readings]
    notes += [f"kept at {_where(source)}: {why}" for source, why in repairs.kept.items()]
    full = torch.ones(graph.count, dtype=torch.bool).numpy()
    total = sum(layer.macs(full) for layer in graph.layers.values())
    shares: Counter[str] = Counter()
    for group in graph.groups:
        if group.frozen is not None and group.frozen != "network output":
            shares[_where(group.frozen)] += sum(graph.layers[member].macs(full) for member in group.members)
    notes += [f"{why} ({100 * macs / total:.0f} %)" for why, macs in shares.most_common(3)]
    linear = sum(layer.macs(full) for layer in graph.layers.values() if layer.kind == "linear")
    if linear > 0.1 * total:
        notes.append(f"linear layers are {100 * linear / total:.0f} % of the MACs")
    return "; ".join(notes)


def _where(text: str) -> str:
    """A reason with the file's name instead of its path, and no module."""
    words = [
        word.rpartition("/")[2] if "/" in word else word for word in text.replace("(", "").replace(")", "").split()
    ]
    return " ".join(words)


def _one(name: str, side: str, sending: Any) -> None:
    """Send one side's row, or what was raised, from a process of its own."""
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        model, images = build(name, {**CNNS, **HYBRIDS}[name])
        sending.send(by_daar(model, images) if side == "daar" else pruned(model, images))
    except BaseException:  # whatever it is belongs into the row
        sending.send({"outcome": "traceback", "why": traceback.format_exc()[-800:]})


def run(name: str, side: str) -> dict[str, Any]:
    """One side's row, within limits of time and memory."""
    forks = multiprocessing.get_context("fork")  # torch and timm are imported once
    receiving, sending = forks.Pipe(duplex=False)
    process = forks.Process(target=_one, args=(name, side, sending))
    process.start()
    sending.close()
    try:
        if not receiving.poll(SECONDS):
            return {"outcome": "timeout", "why": f"more than {SECONDS} s"}
        row: dict[str, Any] = receiving.recv()
        return row
    except EOFError:
        process.join()
        return {"outcome": "traceback", "why": f"ended with {process.exitcode}: too much memory?"}
    finally:
        process.kill()
        process.join()


def rows(path: Path, names: list[str], sides: tuple[str, ...] = SIDES) -> dict[tuple[str, str], dict[str, Any]]:
    """All rows of the file, those that were missing added."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(line["name"], line["side"]): line for line in lines}
    for side in sides:
        for name in names:
            if (name, side) not in done:
                row = {"name": name, "side": side, **run(name, side)}
                done[name, side] = row
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    return done


HEAD = """# A network of each of timm {timm}'s families

Pruned for half of the MACs by L1 and policy `uniform`: scope `all`; scope `units`, with the hidden units of linear
layers, where that is not enough; weights that are computed from parameters folded into plain convs
(`fold=True`) where that opens more. If half is out of reach, the target is the largest multiple of 2 % that
is not. {images} random images of 64 pixels, of more where the network asks for it; weights and statistics are random.
*Exact* is max |slim − masked| / max |output| in float64 by hooks on the dense network, which know nothing of daar's
labels (`benchmarks.hook_check`); what functions read, such as products of queries and keys, no hook can zero, and its
own proof alone judges. Seconds are of groups, proof, plan, slim network and its proof, one thread, on a busy
machine: only their order of magnitude counts.

The last columns are Torch-Pruning 1.6.1's in the same run: `GroupMagnitudeImportance(p=1)`, all but the classifier, the
first of the ratios {ratios} that removes half; MACs by torch's counter, exactness by the same hooks. Both sides have
{seconds} s and {memory} GiB for a network.

Made by `python -m benchmarks.timm_table`, torch {torch}, Python {python}, on {machine}.
"""


def table(done: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The rows as Markdown."""
    import timm

    head = HEAD.format(
        timm=timm.__version__,
        images=IMAGES,
        ratios=", ".join(map(str, RATIOS)),
        seconds=SECONDS,
        memory=BYTES >> 30,
        torch=torch.__version__,
        python=platform.python_version(),
        machine=f"{platform.machine()} with {os.cpu_count()} cores",
    )
    parts = [head]
    for title, names in (("Convolutional networks", CNNS), ("With attention in between", HYBRIDS)):
        run_here = [name for name in names if (name, "daar") in done]
        parts += [f"## {title}", "", _summary(done, run_here), "", COLUMNS]
        parts += [
            _line(name, names[name], done[name, "daar"], done.get((name, "torch-pruning"), {})) for name in run_here
        ]
        parts.append("")
    return "\n".join(parts)


COLUMNS = """| network | pixels | removed | exact | s | what was changed, what stays and why | Torch-Pruning | exact |
|---|---|---|---|---|---|---|---|"""


def _summary(done: dict[tuple[str, str], dict[str, Any]], names: list[str]) -> str:
    """How many reach half, and are exact, on each side."""
    said = []
    for side, title in zip(SIDES, ("daar", "Torch-Pruning"), strict=True):
        several = [done[name, side] for name in names if (name, side) in done]
        ran = [row for row in several if row["outcome"] == "pruned"]
        half = sum(row["removed"] >= 0.5 for row in ran)
        exact = sum((row["error"] or 0) <= EXACT and row["error"] is not None and not row["skipped"] for row in ran)
        other = Counter(row["outcome"] for row in several if row["outcome"] != "pruned")
        rest = "".join(f", {count} × {outcome}" for outcome, count in other.most_common())
        said.append(f"{title}: {half} of {len(several)} reach half; {exact} of {len(ran)} pruned ones are exact{rest}.")
    return " ".join(said)


def _line(name: str, pixels: int, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    ran = ours["outcome"] == "pruned"
    notes = "; ".join(part for part in (_scope(ours), ours.get("notes") or _short(ours.get("why", ""))) if part)
    cells = [
        name,
        str(pixels),
        f"{100 * ours['removed']:.1f} %" if ran else ours["outcome"],
        _exact(ours),
        f"{ours['seconds']:.0f}" if ran else "",
        re.sub(r"/\S*/", "", notes).replace("|", "/")[:300],
        _removed_by_other(theirs),
        _exact(theirs),
    ]
    return f"| {' | '.join(cells)} |"


def _scope(row: dict[str, Any]) -> str:
    return "scope units" if row.get("scope") == "units" else ""


def _exact(row: dict[str, Any]) -> str:
    if row.get("outcome") != "pruned":
        return ""
    if row["error"] is None or (row["skipped"] and "slim_error" not in row):
        return f"not checked: {_short(', '.join(row['skipped']))}"
    if row["error"] > EXACT and row.get("slim_error", 1) <= EXACT:
        return f"by daar's proof alone: {row['slim_error']:.1e} (hooks: {row['error']:.1e})"
    return f"{row['error']:.1e}" if row["error"] <= EXACT else f"**no: {row['error']:.1e}**"


def _removed_by_other(row: dict[str, Any]) -> str:
    if not row:
        return "not run"
    return f"{100 * row['removed']:.1f} %" if row["outcome"] == "pruned" else f"{row['outcome']}: {_short(row['why'])}"


def _short(text: str) -> str:
    return " ".join(re.sub(r"/\S*/", "", text).replace("|", "/").split())[:100]


def main() -> None:
    """Run what is missing and print the table."""
    command = argparse.ArgumentParser(prog="python -m benchmarks.timm_table")
    command.add_argument("--rows", type=Path, default=Path("results/timm.jsonl"))
    command.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    command.add_argument("names", nargs="*")
    a = command.parse_args()
    print(table(rows(a.rows, a.names or [*CNNS, *HYBRIDS], tuple(a.sides))))


if __name__ == "__main__":
    main()
