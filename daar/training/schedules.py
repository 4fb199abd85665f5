"""Schedules: when filters go, and how the epochs of tuning are divided. The third axis next to importance and policy.

docs/schedules.md says which papers they follow. Imported while the DAG is built: neither torch nor numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daar.errors import InputError, unknown
from daar.methods.discovery import Method
from daar.training.recipe import Recipe

ONE_SHOT = "one-shot"
# name → its options with their defaults, each a number from 1 on; None for as many as there can be
KINDS: dict[str, dict[str, int | None]] = {
    "iterative": {"rounds": 3},
    "layerwise": {"steps": None},
    "soft": {"interval": 1},
}
TITLES = {
    ONE_SHOT: "score, plan, slim, tune; the default",
    "iterative": "in rounds of score, plan, slim and tune; later rounds score the tuned network",
    "layerwise": "one plan, carried out group by group from the input on, the whole network tuned after each (HRank)",
    "soft": "filters zeroed after every epoch of training and still updated, slimmed at the end (SFP, FPGM)",
}
# where they differ from the papers, phrases
_DEVIATIONS = {
    "iterative": ("a few rounds, each with its own learning rates; papers remove fewer filters at a time",),
    "layerwise": (
        "the epochs of a one-shot tuning in all; the paper tunes for as many after every layer",
        "a residual stream is one step, and the last epoch of a step is kept; the paper keeps the best on test",
    ),
    "soft": (
        "begins with the trained network and ends with the tuning's epochs",
        "zeroed filters are cut out in the end and BN is recalibrated; the papers measure the masked network",
    ),
}
_MOST = 1_000_000


@dataclass(frozen=True)
class Schedule:
    """A schedule other than one-shot.

    Attributes:
        name: a key of KINDS.
        options: all of its options, given or by default, sorted.
    """

    name: str
    options: tuple[tuple[str, int | None], ...]

    def __str__(self) -> str:
        """For titles: `iterative, 3 rounds`; a schedule at its defaults is its name alone but for that number."""
        (option, value), *_ = self.options
        if value in (None, 1):
            return self.name
        return f"{self.name}, {value} epochs apart" if option == "interval" else f"{self.name}, {value} {option}"

    def to_json(self) -> dict[str, Any]:
        """Name and all options, for hashes and records."""
        return {"name": self.name, "options": dict(self.options)}

    @property
    def deviations(self) -> tuple[str, ...]:
        """Where it differs from the papers, phrases."""
        return _DEVIATIONS[self.name]

    @property
    def given(self) -> dict[str, int]:
        """The options that say a number."""
        return {name: value for name, value in self.options if value is not None}

    def problem(self, recipe: Recipe) -> str | None:
        """Why it cannot be had with this recipe of tuning, a sentence with its remedy; None if it can."""
        if self.name == "soft" and recipe.ema:
            return (
                "schedule soft zeroes filters of the network that is trained, but ema keeps an average of its weights, "
                "in which they are not zero. Take ema out of finetune, or choose another schedule."
            )
        (option, value), epochs = self.options[0], recipe.epochs
        needed = value or 1
        if needed <= epochs:
            return None
        epoch = f"epoch{'s' if needed > 1 else ''}" if option == "interval" else f"{option} of one epoch"
        lower = f"Give schedule_options {option} {epochs}, or raise" if epochs else "Raise"
        return (
            f"schedule {self.name} needs {needed} {epoch} or more, but the tuning has {epochs} in all. {lower} the "
            f"epochs of finetune to {needed}."
        )

    def unfit(self, method: Method, target: float | None) -> str | None:
        """Why a method or a target does not go with it, a sentence with its remedy; None if they do."""
        if method.scores is None:
            return (
                f"schedule {self.name} scores while it runs, but the method {method.name!r} is a program of its own. "
                "Use this method without a schedule."
            )
        if self.name == "iterative" and target is None:
            return (
                "schedule iterative divides the fraction of MACs to be removed between its rounds, but there is none. "
                "Give one (macs_reduction), or another schedule."
            )
        return None


def from_entry(name: str, options: Mapping[str, Any], where: str) -> Schedule | None:
    """A schedule by its name and the options that are given; None for one-shot.

    Raises:
        InputError: it is unknown, has no such option, or not with that value.
    """
    if name != ONE_SHOT and name not in KINDS:
        raise unknown(f"schedule in {where}", str(name), [ONE_SHOT, *KINDS])
    known = KINDS.get(name, {})
    for option, value in options.items():
        if option not in known:
            raise InputError(
                f"{where}: schedule {name} has no option {option!r}; it has {', '.join(known) or 'none'}. Take it out."
            )
        if type(value) is not int or not 1 <= value <= _MOST:
            raise InputError(
                f"{where}: {option} of schedule {name} is {value!r}; it must be a whole number from 1 to {_MOST:,}."
            )
    return None if name == ONE_SHOT else Schedule(name, tuple(sorted({**known, **options}.items())))


def shorthand(name: str) -> tuple[str, Schedule] | None:
    """The method and the schedule that a name such as `fpgm-soft` stands for; None for any other name."""
    for kind in KINDS:
        method = name.removesuffix(f"-{kind}")
        if method not in (name, ""):
            schedule = from_entry(kind, {}, name)
            assert schedule is not None
            return method, schedule
    return None


def parts(total: int, number: int) -> list[int]:
    """A total divided into a number of parts as equal as can be, the first of them the smaller ones."""
    return [total * (part + 1) // number - total * part // number for part in range(number)]
