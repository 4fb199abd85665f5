"""Published recipes by name, and the recipe that a suite or the command line asks for.

Published recipes are data, one file each: workflow/resources/recipes/<name>.yaml. Imported while the DAG is built, so
neither torch nor numpy.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daar.errors import InputError, unknown
from daar.storage import documents
from daar.storage.bundled import RESOURCES
from daar.storage.schemas import validate
from daar.training.recipe import Recipe, from_json

FOLDER = RESOURCES / "recipes"


@dataclass(frozen=True)
class PublishedRecipe:
    """One published recipe, from one file.

    Attributes:
        title: paper or repository, for lists.
        where: URL, or repository@commit: files, that it was read from.
        purpose: `train` (dense networks) or `finetune` (pruned ones).
        recipe: all settings; defaults of Recipe where the source states none.
        deviations: where our engine differs from the source, one sentence each.
    """

    title: str
    where: str
    purpose: str
    recipe: Recipe
    deviations: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for lists."""
        r = self.recipe
        how = f"{r.epochs} epochs, lr {r.lr:g} {r.schedule}, batch {r.batch_size}, weight decay {r.weight_decay:g}"
        return f"{self.title}; for {self.purpose}: {how}; from {self.where.split(': ')[0]}"

    def to_json(self) -> dict[str, Any]:
        """What `daar list recipes --json` prints of it."""
        about = {"title": self.title, "for": self.purpose, "source": self.where, "settings": self.recipe.to_json()}
        return {**about, "hash": self.recipe.hash, "deviations": list(self.deviations)}


def find() -> dict[str, PublishedRecipe]:
    """All published recipes by name, sorted.

    Raises:
        InputError: a file is damaged.
    """
    return {file.stem: load(file) for file in sorted(FOLDER.glob("*.yaml"), key=lambda file: file.stem)}


@functools.cache
def load(file: Path) -> PublishedRecipe:
    """Read one file.

    Raises:
        InputError: it cannot be read, is no YAML, breaks its schema, or its settings are no recipe.
    """
    remedy = "Restore it from git."
    content = documents.read_yaml(file, "a published recipe", remedy)
    validate(content, "recipe", str(file), remedy)
    recipe = from_json(content["settings"], f"{file}: settings")
    if content["for"] == "train":
        _require_no_teacher(recipe, f"{file}: settings")
    deviations = tuple(content["deviations"])
    return PublishedRecipe(content["title"], content["source"]["where"], content["for"], recipe, deviations)


def resolve(said: str | Mapping[str, Any], purpose: str, where: str) -> Recipe:
    """The recipe that a suite or the command line asks for.

    Args:
        said: the name of a published recipe; or a mapping of settings, which override those of the published recipe
            under the key `recipe`, else Recipe's defaults. Each setting overrides that one alone, but a schedule other
            than the published recipe's also drops its milestones.
        purpose: `train` or `finetune`.
        where: the place in the suite or on the command line, for messages.

    Raises:
        InputError: there is no such recipe, it is for the other purpose, a setting is unknown or out of range, or
            training from scratch should distil.
    """
    settings = {"recipe": said} if isinstance(said, str) else dict(said)
    if "recipe" in settings:
        base = _named(str(settings.pop("recipe")), purpose, where).recipe.to_json()
        if settings.get("schedule", base["schedule"]) != base["schedule"]:
            base.pop("milestones")
        if settings.get("optimizer", "sgd") != base.get("optimizer", "sgd"):
            base = {key: value for key, value in base.items() if key not in ("momentum", "nesterov", "betas")}
        settings = {**base, **settings}
    recipe = from_json(settings, where)
    if purpose == "train":
        _require_no_teacher(recipe, where)
    return recipe


def _named(name: str, purpose: str, where: str) -> PublishedRecipe:
    fitting = {key: published for key, published in find().items() if published.purpose == purpose}
    if name in fitting:
        return fitting[name]
    other = f"{name!r} is for {find()[name].purpose}. " if name in find() else ""
    hint = f"{other}Or write the settings out, see daar/training/recipe.py."
    raise unknown(f"{purpose} recipe in {where}", name, list(fitting), hint)


def _require_no_teacher(recipe: Recipe, where: str) -> None:
    """InputError if a recipe for training from scratch distils: there is no teacher then."""
    if recipe.distillation > 0:
        raise InputError(
            f"{where}: distillation is {recipe.distillation:g}, but what trains from scratch has no teacher. "
            "Take it out, or give it to the tuning (in a suite: finetune)."
        )
