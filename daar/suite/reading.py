"""Read a suite: YAML, or Snakemake's config, to a checked definition.

Imported while the DAG is built: neither torch nor numpy.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from daar import models
from daar.data import datasets
from daar.data.own import definition as own_data
from daar.errors import InputError, unknown
from daar.methods import discovery
from daar.models import libraries
from daar.models import own as own_networks
from daar.pruning import own_ratios
from daar.storage import documents
from daar.storage.bundled import SCHEMAS
from daar.storage.schemas import schema, validate
from daar.suite import checks, paths
from daar.suite.definition import CONTROLS, MACS_POINTS, Base, Suite, Variant
from daar.suite.stability import Stability, from_entry
from daar.training import published_recipes, schedules

RESULT_NEUTRAL = "reads settings; their values are arguments of the stages"

# keys that Snakemake or its user may add to the config and that are none of the experiment's
_ENGINE_KEYS = {"pathvars", "config_version"}
# a key that makes a config file a template of YTE, and that Snakemake takes out
_TEMPLATE = "__use_yte__"


def load(path: Path) -> Suite:
    """Read and validate a suite file.

    Raises:
        InputError: no such file, not YAML, or not a suite.
    """
    return from_config(documents.read_yaml(path, "a suite"), str(path))


def require_plain(files: Iterable[Path]) -> None:
    """Refuse what Snakemake takes in a config file and `load` does not, by the same words.

    Snakemake takes the last of two equal keys and some texts for dates, and runs the expressions of templates.

    Args:
        files: that Snakemake has made its config of; each may be a part of a suite.

    Raises:
        InputError: as of `documents.read_yaml`; or it is a template.
    """
    for file in files:
        content = documents.read_yaml(file, "a suite")
        if isinstance(content, dict) and _TEMPLATE in content:
            raise InputError(f"{file}: {_TEMPLATE} makes a template of it, and a suite is none. Take it out.")


def from_config(content: Any, where: str, packs: Path = Path(paths.PACKS)) -> Suite:
    """Make a suite of Snakemake's config or of a suite file's content.

    Args:
        content: the mapping.
        where: it comes from, for messages.
        packs: folder of packed datasets, which stand for a dataset of one's own whose images are gone.

    Raises:
        InputError: a key, a name or a value is wrong; says which and what is allowed.
    """
    content = normal_form(documents.require_json(content, f"{where}: it", "Correct it."))
    validate(content, "suite", where, f"See {SCHEMAS / 'suite.schema.yaml'}.")
    checks.require_possible_paths(content, where)
    networks_dirs = tuple(Path(folder) for folder in content.get("networks_dirs", ()))
    own_networks.use(networks_dirs)
    own_networks.find()  # a folder that is not there is said, also if no network of the suite is looked for in it
    data_of_own = _own_data(content, packs, where)
    names = _network_names(content)
    extra = tuple(Path(folder) for folder in content.get("methods_dirs", ()))
    suite = Suite(
        name=content["suite"],
        datasets=_distinct(content["datasets"], f"{where}: datasets"),
        networks=_distinct(map(names, content["networks"]), f"{where}: networks"),
        variants=_variants(content, extra, where),
        policies=_policies(content, where),
        scope=content.get("scope", "all"),
        targets=_distinct(content["macs_reductions"], f"{where}: macs_reductions"),
        seeds=_distinct(content["seeds"], f"{where}: seeds"),
        calibration_images=content.get("calibration_images", 640),
        train=published_recipes.resolve(content.get("train", {}), "train", f"{where}: train"),
        finetune=published_recipes.resolve(content["finetune"], "finetune", f"{where}: finetune"),
        base={names(name): _base(entry) for name, entry in content.get("base", {}).items()},
        data_root=content.get("data_root"),
        allow_cpu=content.get("allow_cpu", True),
        methods_dirs=extra,
        networks_dirs=networks_dirs,
        own_data=data_of_own,
        latency=content.get("latency", False),
        slots_per_gpu=content.get("slots_per_gpu"),
        processes=content.get("distributed", {}).get("processes", 1),
        nodes=content.get("distributed", {}).get("nodes", 1),
        reuse=content.get("reuse", False),
        ratios=_ratios(content),
        round_to=content.get("round_to", 1),
        macs_points=content.get("macs_points", MACS_POINTS),
    )
    checks.require_consistent(suite, content, where)
    return replace(suite, stability=_stability(suite, content, where))


def normal_form(content: Any) -> Any:
    """A config without Snakemake's own keys, with values of the right type.

    Snakemake hands what comes by `--config` on as text: "true" for true, ["0.5"] for [0.5]. Where the schema wants no
    text, text is read as YAML.
    """
    if not isinstance(content, dict):
        return content
    whole = schema("suite")
    return _typed({key: value for key, value in content.items() if key not in _ENGINE_KEYS}, whole, whole["$defs"])


def _typed(value: Any, part: Any, definitions: dict[str, Any]) -> Any:
    part = part if isinstance(part, dict) else {}
    if "$ref" in part:
        part = {**definitions[part["$ref"].rsplit("/", 1)[1]], **part}
    if isinstance(value, dict):
        known, other = part.get("properties", {}), part.get("additionalProperties")
        return {key: _typed(entry, known.get(key, other), definitions) for key, entry in value.items()}
    if isinstance(value, list):
        return [_typed(entry, part.get("items"), definitions) for entry in value]
    if isinstance(value, str) and "type" in part and "string" not in part["type"]:
        return _from_text(value)
    return value


def _from_text(text: str) -> Any:
    try:
        value = documents.parse_yaml(text, "text")
        return float(value) if isinstance(value, str) else value  # YAML 1.1 takes 1e-3 for text
    except (InputError, ValueError):
        return text


def _distinct(values: Iterable[Any], where: str) -> tuple[Any, ...]:
    values = tuple(values)
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise InputError(f"{where} names {twice[0]!r} twice. Name it once.")
    return values


def _own_data(content: dict[str, Any], packs: Path, where: str) -> dict[str, dict[str, Any]]:
    """Datasets of one's own, which are known by their names from then on."""
    if isinstance(content["datasets"], list):
        return {}
    entries = {name: entry for name, entry in content["datasets"].items() if entry}
    for name, entry in entries.items():
        own_data.from_suite(name, entry, packs, f"{where}: datasets.{name}")
    return entries


def _network_names(content: dict[str, Any]) -> Callable[[str], str]:
    """What gives a network's name: of a library's network, with the size of the datasets' images, as paths have it."""
    size = datasets.get(next(iter(content["datasets"]))).shape[1]

    def name(said: str) -> str:
        return models.get(libraries.at_size(said, size)).name if libraries.is_one(said) else said

    return name


def _variants(content: dict[str, Any], extra: tuple[Path, ...], where: str) -> tuple[Variant, ...]:
    """Those of `variants` and of `methods`; all methods there are where the suite has neither key."""
    methods = discovery.find(extra)
    listed = content.get("methods", [] if "variants" in content else list(methods))
    variants = [Variant(name, name) for name in _distinct(listed, f"{where}: methods")]
    for name, entry in content.get("variants", {}).items():
        variants.append(_variant(name, entry, f"{where}: variants.{name}"))
    variants = [_spelled_out(variant, methods, f"{where}: variants.{variant.name}") for variant in variants]
    for variant in variants:
        if variant.of is None and variant.method not in methods:
            hint = (
                f"With a schedule it is NAME-{' or NAME-'.join(schedules.KINDS)}; methods of your own are in folders "
                "that methods_dirs names. Delete the key `methods` to run all there are."
            )
            raise unknown(f"method in {where}", variant.method, list(methods), hint)
        if variant.of is None:
            discovery.split_options(methods[variant.method], dict(variant.options))
    _distinct([variant.name for variant in variants], f"{where}: methods and variants")
    ordinary = [variant.name for variant in variants if variant.of is None]
    for variant in variants:
        if variant.of is not None and variant.of not in ordinary:
            hint = "A control takes its plan from a method's variant, not from another such control."
            raise unknown(f"variant in {where}: variants.{variant.name}.{variant.method}", variant.of, ordinary, hint)
    return tuple(variants)


def _variant(name: str, entry: dict[str, Any], where: str) -> Variant:
    kinds = [key for key in ("method", *CONTROLS) if key in entry]
    if len(kinds) != 1:
        raise InputError(f"{where} has {' and '.join(kinds) or 'none'} of method, random_at, scratch_of. Give one.")
    own_keys = ("options", "policy", "policy_options", "schedule", "schedule_options")
    allowed = {"method": own_keys, "scratch_of": ("budget",)}.get(kinds[0], ())
    for key in entry:
        if key not in (kinds[0], *allowed, "title"):
            raise InputError(f"{where} has {key!r}, which {kinds[0]} does not take. Take it out.")
    if kinds[0] == "method":
        options, given = (tuple(sorted(entry.get(key, {}).items())) for key in ("options", "policy_options"))
        own = _policy(entry["policy"], f"{where}.policy") if "policy" in entry else None
        if "schedule_options" in entry and "schedule" not in entry:
            raise InputError(
                f"{where} has schedule_options, but no schedule. Add `schedule`, or delete schedule_options."
            )
        said = entry.get("schedule", schedules.ONE_SHOT), entry.get("schedule_options", {})
        by, title = schedules.from_entry(*said, where), entry.get("title")
        return Variant(name, entry["method"], options, policy=own, policy_options=given, schedule=by, title=title)
    options = (("budget", entry.get("budget", "epochs")),) if kinds[0] == "scratch_of" else ()
    return Variant(name, kinds[0], options, entry[kinds[0]], title=entry.get("title"))


def _spelled_out(variant: Variant, methods: Mapping[str, discovery.Method], where: str) -> Variant:
    """A variant of a name such as `fpgm-soft` as one of the method, by the schedule."""
    meant = None if variant.of is not None or variant.method in methods else schedules.shorthand(variant.method)
    if meant is None or meant[0] not in methods:
        return variant
    if variant.schedule is not None:
        raise InputError(f"{where}: {variant.method} has a schedule already. Name {meant[0]}, or leave the other out.")
    return replace(variant, method=meant[0], schedule=meant[1])


def _policies(content: dict[str, Any], where: str) -> tuple[str, ...] | None:
    if "policies" not in content:
        return None
    named = [_policy(entry, f"{where}: policies") for entry in content["policies"]]
    return _distinct(named, f"{where}: policies")


def _policy(entry: Any, where: str) -> str:
    """A policy's name; own ratios, {ratios: …} or a paper's text, have one that tells them apart."""
    spec = _own(entry)
    return str(entry) if spec is None else own_ratios.name(own_ratios.check(spec, f"{where}.ratios"))


def _own(entry: Any) -> Any:
    """The own ratios of a policy, or None."""
    if isinstance(entry, dict):
        return entry["ratios"]
    return entry if entry.startswith("[") else None


def _ratios(content: dict[str, Any]) -> dict[str, own_ratios.Spec]:
    variants = content.get("variants", {}).values()
    entries = [*content.get("policies", ()), *(entry["policy"] for entry in variants if "policy" in entry)]
    return {own_ratios.name(spec): spec for entry in entries if (spec := _own(entry)) is not None}


def _stability(suite: Suite, content: dict[str, Any], where: str) -> Stability | None:
    if "stability" not in content:
        return None
    scored = {variant.name: suite.methods[variant.method] for variant in suite.variants if variant.of is None}
    return from_entry(content["stability"], scored, suite.datasets, where)


def _base(entry: dict[str, Any]) -> Base:
    mean, std = (tuple(entry[key]) if key in entry else None for key in ("mean", "std"))
    return Base(entry["file"], mean, std, tuple(entry.get("trained_on", ("train", "val"))), entry.get("url"))
