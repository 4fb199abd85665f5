"""Networks of timm and torchvision, by name, at any size of images: `timm:resnet18`, `torchvision:vgg11_bn@64`.

`@64` is the height and width; a suite and `daar train` fill in those of the dataset. A name with weights,
`timm:resnet18.a1_in1k` or `torchvision:resnet18.IMAGENET1K_V1`, starts training from them. Within paths, checkpoints
and records a network has the same name without characters that a shell or a file system may not like:
`timm-resnet18.a1_in1k-64`. Light: a library is imported when a network is built.
"""

import importlib.util
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daar.errors import InputError
from daar.models.network import Network
from daar.models.own import ASSUMED_MACS

if TYPE_CHECKING:
    from torch import nn

RESULT_NEUTRAL = "names networks; what builds them counts"

_DEFAULT_SIZE, _LARGEST = 224, 4096
_CLASSES = 1000
# library → how it is installed
PACKAGES = {"timm": 'pip install timm (or "daar[networks]")', "torchvision": "pip install torchvision"}
_SAID = re.compile(r"(timm|torchvision):([A-Za-z0-9_]+)(?:\.([A-Za-z0-9_]+))?(?:@([0-9]{1,4}))?")
_IN_PATHS = re.compile(r"(timm|torchvision)-([A-Za-z0-9_]+)(?:\.([A-Za-z0-9_]+))?-([0-9]{1,4})")
# whether a network that is built is to be trained: published weights are read then alone, as a checkpoint has its own
_starts: ContextVar[bool] = ContextVar("starts", default=False)


@dataclass(frozen=True)
class LibraryNetwork(Network):
    """A network of a library.

    Attributes:
        library: timm or torchvision.
        model: its name there.
        weights: the published weights that its training starts from, as the library names them; empty for none.
    """

    library: str = ""
    model: str = ""
    weights: str = ""

    def build(self, num_classes: int) -> "nn.Module":
        """Build the network with fresh weights, drawn from torch's global generator; within `starting` published ones.

        Raises:
            InputError: the library has no such network or weights, they cannot be had, or it cannot take such images.
        """
        from daar.models import built, library_networks

        size = self.input_shape[1]
        model = library_networks.build(self.library, self.model, size, num_classes)
        built.require_logits(model, self.input_shape, num_classes, f"{self.library}:{self.model}@{size}")
        if self.weights and _starts.get():
            library_networks.load_published(model, self.library, self.model, self.weights)
        return model

    def initialise(self, model: "nn.Module") -> None:
        """Nothing: a slim network that is trained from scratch starts with torch's default initialisation."""

    def code(self, functions: Iterable[str]) -> list[str]:
        """What builds it here; the library's own code counts as little as torch's."""
        entries = ["build", "load_published"] if self.weights else ["build"]
        return [f"{self.module}:{entry}" for entry in entries] if tuple(functions) else []


@contextmanager
def starting() -> Iterator[None]:
    """Networks that are built within are to be trained: they start from their published weights, if they name any."""
    token = _starts.set(True)
    try:
        yield
    finally:
        _starts.reset(token)


def is_one(name: str) -> bool:
    """Whether a name is that of a library's network, as one says it or as paths have it."""
    return (name.partition(":")[0] in PACKAGES and ":" in name) or _IN_PATHS.fullmatch(name) is not None


def at_size(name: str, size: int) -> str:
    """The name of a library's network with the size of its images, where it has none; any other name as it is."""
    match = _SAID.fullmatch(name)
    return f"{name}@{size}" if match and match[4] is None else name


def get(name: str) -> LibraryNetwork:
    """Look up a library's network; whether the library has it turns out when it is built.

    Raises:
        InputError: the name cannot be one, the library is not installed, or the size is out of range.
    """
    match = _SAID.fullmatch(name) or _IN_PATHS.fullmatch(name)
    if match is None:
        raise InputError(
            f"a network of a library is named LIBRARY:NAME, LIBRARY:NAME.WEIGHTS or, with the size of its images, "
            f"LIBRARY:NAME@64; got {name[:100]!r}. Names are of letters, digits and _."
        )
    library, model, weights, size = match[1], match[2], match[3] or "", int(match[4] or _DEFAULT_SIZE)
    if importlib.util.find_spec(library) is None:
        raise InputError(f"{name} needs the package {library}, which is not installed. Run: {PACKAGES[library]}")
    if not 8 <= size <= _LARGEST:
        raise InputError(f"{name}: the size of its images is {size}; expected 8 to {_LARGEST:,} pixels. Correct it.")
    published = f"{model}.{weights}" if weights else model
    return LibraryNetwork(
        name=f"{library}-{published}-{size}",
        title=f"{published} ({library}, {size}x{size})",
        module="daar.models.library_networks",
        input_shape=(3, size, size),
        classes=_CLASSES,
        macs=ASSUMED_MACS,
        source=library,
        library=library,
        model=model,
        weights=weights,
    )
