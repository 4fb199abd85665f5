"""Builds networks of timm and torchvision."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from daar.errors import InputError, said

# networks of torchvision that give several outputs in training, unless told not to, and warn of their initialisation
_ONE_OUTPUT = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}
_CLOSE = 5


def build(library: str, model: str, size: int, num_classes: int) -> nn.Module:
    """A network with fresh weights, drawn from torch's global generator.

    Args:
        library: timm or torchvision.
        model: its name there.
        size: height and width of its images.
        num_classes: length of the logits.

    Raises:
        InputError: the library has none of that name, or cannot build it so.
    """
    maker = _of_timm if library == "timm" else _of_torchvision
    try:
        return maker(model, size, num_classes)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{library}:{model} cannot be built for {size}x{size} images and {num_classes} classes: {said(error)}. "
            "Choose another size or network."
        ) from error


def _of_timm(model: str, size: int, num_classes: int) -> nn.Module:
    import timm

    if not timm.is_model(model):
        raise _unknown("timm", model, timm.list_models())
    # such as vision transformers, whose positions have parameters
    fixed = getattr(timm.models.get_pretrained_cfg(model), "fixed_input_size", False)
    built: nn.Module = timm.create_model(model, num_classes=num_classes, **({"img_size": size} if fixed else {}))
    return built


def _of_torchvision(model: str, size: int, num_classes: int) -> nn.Module:
    import torchvision.models as networks

    names = networks.list_models(module=networks)
    if model not in names:
        raise _unknown("torchvision", model, names)
    options: dict[str, bool | int] = {**_ONE_OUTPUT.get(model, {})}
    if model.startswith("vit_"):
        options["image_size"] = size
    built: nn.Module = networks.get_model(model, weights=None, num_classes=num_classes, **options)
    return built


def _unknown(library: str, name: str, known: list[str]) -> InputError:
    close = difflib.get_close_matches(name, known, _CLOSE) or known[:_CLOSE]
    return InputError(f"{library} has no network {name!r}; it has {len(known):,}, such as {', '.join(close)}.")


def load_published(model: nn.Module, library: str, name: str, weights: str) -> None:
    """Load published weights, from the library's cache or from where it downloads them; another classifier stays fresh.

    Args:
        model: the network.
        library: timm or torchvision.
        name: its name there.
        weights: their name there.

    Raises:
        InputError: there are none of that name, they cannot be had, or do not fit.
    """
    fetch = _from_timm if library == "timm" else _from_torchvision
    where = f"the weights {library}:{name}.{weights}"
    try:
        published = fetch(name, weights)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # no network, a broken transfer, a wrong hash
        raise InputError(
            f"{where} are not in its cache and cannot be downloaded: {said(error)}. Fetch them where there is a "
            f"network, or start from fresh ones: {library}:{name}"
        ) from error
    _load(model, published, where)


def _from_timm(name: str, weights: str) -> Mapping[str, Tensor]:
    import timm

    known = [one.partition(".")[2] for one in timm.list_pretrained(f"{name}.*")]
    if weights not in known:
        raise InputError(f"timm has no weights {weights!r} of {name}; it has: {', '.join(known) or 'none'}.")
    named = f"{name}.{weights}"
    # a file in the cache is as good without a network, for which Hugging Face's library would wait
    overlay = {} if (file := _cached(timm.models.get_pretrained_cfg(named))) is None else {"file": file}
    published: Mapping[str, Tensor] = timm.create_model(
        named, pretrained=True, pretrained_cfg_overlay=overlay
    ).state_dict()
    return published


def _cached(config: Any) -> str | None:
    """The file of a model's weights in Hugging Face's cache."""
    look_up = importlib.import_module("huggingface_hub").try_to_load_from_cache  # timm depends on it
    repository = getattr(config, "hf_hub_id", None)
    files = ("model.safetensors", "pytorch_model.bin") if repository else ()
    found = (look_up(repository, file) for file in files)
    return next((file for file in found if isinstance(file, str)), None)


def _from_torchvision(name: str, weights: str) -> Mapping[str, Tensor]:
    import torchvision.models as networks

    known = networks.get_model_weights(name)
    if weights not in known.__members__:
        raise InputError(
            f"torchvision has no weights {weights!r} of {name}; it has: {', '.join(known.__members__) or 'none'}."
        )
    published: Mapping[str, Tensor] = known[weights].get_state_dict(progress=False, check_hash=True)
    return published


def _load(model: nn.Module, published: Mapping[str, Tensor], where: str) -> None:
    """Copy what fits; a classifier of another number of classes stays as it is."""
    own = model.state_dict()
    # torchvision's GoogLeNet has classifiers that only its training reads
    fitting = {key: value for key, value in published.items() if key in own}
    heads = _classifiers(model)
    other = [key for key, value in fitting.items() if own[key].shape != value.shape and key not in heads]
    if missing := [key for key in own if key not in published and key not in heads]:
        raise InputError(f"{where} have no {missing[0]} (and {len(missing) - 1} more). Name others.")
    if other:
        raise InputError(f"{where} have another shape of {other[0]}: {tuple(fitting[other[0]].shape)}. Name others.")
    kept = {key: value for key, value in fitting.items() if own[key].shape == value.shape}
    model.load_state_dict({**own, **kept})


def _classifiers(model: nn.Module) -> set[str]:
    """The parameters of the last layer, which gives the logits."""
    layers: list[tuple[str, Any]] = [
        (path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    if not layers:
        return set()
    path, last = layers[-1]
    return {f"{path}.{name}" for name, _ in last.named_parameters(recurse=False)}
