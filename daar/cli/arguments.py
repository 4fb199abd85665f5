"""Turn arguments that several commands share into values. Heavy modules are imported where they are needed."""

import functools
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from daar import models
from daar.data import datasets, pack_files
from daar.data.own import definition
from daar.device import distributed
from daar.errors import InputError
from daar.methods import discovery
from daar.models import libraries
from daar.pruning import own_ratios
from daar.storage import documents
from daar.suite import paths
from daar.training import published_recipes
from daar.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

_MOST_THREADS = 10_000


def packs(a: Namespace) -> Path:
    """The folder of the packed dataset; packs it, or indexes its images, if that is not done yet."""
    from daar.data import loading

    definition.recall_all(a.packs)
    dataset = datasets.get(a.dataset)
    folder: Path = a.packs / a.dataset
    if not (folder / pack_files.SOURCE).exists():
        loading.prepare(dataset, folder, data_root=a.data_root)
    return folder


def network(a: Namespace, packs: Path = Path(paths.PACKS)) -> str:
    """The name of --network; a library's network takes images of the size that those of --dataset have.

    Args:
        a: parsed command line.
        packs: folder of packed datasets, where those of one's own are known from.
    """
    definition.recall_all(packs)
    return models.get(libraries.at_size(a.network, datasets.get(a.dataset).shape[1])).name


def device(a: Namespace) -> "torch.device":
    """The device of --device, with --threads CPU threads; a GPU is kept until the process ends.

    Under torchrun the processes join their group first, and all but rank 0 stop printing.
    """
    from daar.device.gpu import choose_device, slots_per_gpu

    _set_threads(a.threads)
    distributed.join()
    if not distributed.is_first():
        silence(sys.stdout)
    return choose_device(a.device, slots_per_gpu(a.slots_per_gpu))


def _set_threads(count: int | None) -> None:
    from daar.device.gpu import count_cores

    if count is not None and not 1 <= count <= _MOST_THREADS:
        raise InputError(f"--threads is {count}; it must be 1 to {_MOST_THREADS:,}.")
    if count is not None:  # for processes that this one starts, and for libraries that numpy loads later
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count)))
    import torch

    torch.set_num_threads(count or max(1, count_cores() // distributed.local_processes()))


def say(a: Namespace) -> Callable[[str], None]:
    """A function that prints a line at once, after the label; training goes on when the reader has closed the pipe."""
    return functools.partial(_print, f"{a.label}: " if a.label else "")


def _print(label: str, line: str) -> None:
    try:
        print(f"{label}{line}", flush=True)
    except BrokenPipeError:
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """Redirect a stream whose reader has closed it to the null device; Python would fail again on it at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def options(a: Namespace) -> dict[str, Any]:
    """The options of the method, from --options."""
    return json_object(a.options, "--options", '{"attention": "dual"}')


def policy_options(a: Namespace) -> dict[str, Any]:
    """The options of the policy, from --policy-options."""
    return json_object(a.policy_options, "--policy-options", '{"adjust": false}')


def json_object(text: str, name: str, example: str = '{"rounds": 3}') -> dict[str, Any]:
    """The mapping that an option of the command line holds as JSON.

    Raises:
        InputError: it is no JSON, or no object.
    """
    content = from_text(text, name)
    if not isinstance(content, dict):
        raise InputError(f"{name} must be a JSON object, got {text!r}. For example: '{example}'")
    return content


def ratios(a: Namespace) -> own_ratios.Spec | None:
    """The own ratios of --ratios, which take the place of --policy; None without."""
    if a.ratios is None:
        return None
    said = from_text(a.ratios, "--ratios") if a.ratios.lstrip().startswith("{") else a.ratios
    spec = own_ratios.check(said, "--ratios")
    if a.policy not in (None, own_ratios.name(spec)):
        raise InputError(f"--ratios and --policy {a.policy} are given; each says how much goes. Give one of them.")
    return spec


def policy(a: Namespace) -> tuple[str, own_ratios.Spec | None, dict[str, Any]]:
    """Name of the policy, own ratios in its place, and its options, checked.

    Raises:
        InputError: there is no such method or policy, or it has no such option.
    """
    from daar.pruning import policy_arguments

    own, given = ratios(a), policy_options(a)
    name = a.policy or discovery.get(a.method, a.methods_dir).policy
    policy_arguments.check(name if own is None else own_ratios.name(own), given, a.methods_dir)
    return name, own, given


def recipe(a: Namespace, default: Recipe, purpose: str = "train") -> Recipe:
    """The recipe of --recipe, else `default`; single options override it. --recipe fills in Recipe's own defaults.

    Args:
        a: parsed command line.
        default: used without --recipe.
        purpose: `train` or `finetune`; a published recipe must be for it.
    """
    settings = default.to_json() if a.recipe is None else _said(a.recipe)
    given = {f.name: value for f in fields(Recipe) if (value := getattr(a, f.name)) is not None}
    if given.get("schedule", "step") != "step" and "milestones" not in given:
        settings.pop("milestones", None)
    return published_recipes.resolve({**settings, **given}, purpose, "recipe")


def _said(text: str) -> dict[str, Any]:
    """The settings of --recipe: JSON, the name of a published recipe, or a file."""
    if text.lstrip().startswith("{"):
        settings: dict[str, Any] = from_text(text, "--recipe")
        return settings
    is_file = "." in text or "/" in text or os.path.lexists(text)
    return {"recipe": text} if text in published_recipes.find() or not is_file else _from_file(Path(text))


def from_text(text: str, what: str) -> Any:
    """Parse JSON text; the message of InputError names `what` it should be."""
    shown = text if len(text) <= 200 else f"{text[:200]} …"
    return documents.parse_json(text, what, f"Got {shown!r}.")


def _from_file(path: Path) -> dict[str, Any]:
    content = documents.read_yaml(path, "a recipe in YAML or JSON")
    if not isinstance(content, dict):
        raise InputError(f"recipe {path} must be a mapping of settings, got {type(content).__name__}.")
    return content
