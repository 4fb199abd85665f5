"""What is known of a network without building it. Light: a family's module is imported when a network is built."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

RESULT_NEUTRAL = "an entry of a registry; the module of the network itself counts"


@dataclass(frozen=True)
class Network:
    """One network of the registry.

    Attributes:
        name: as the suite and the command line know it.
        title: as tables print it.
        module: the module of its family, with `build(name, num_classes)` and `initialise(model)`, which draws the
            weights that do not have torch's default initialisation.
        input_shape: (C, H, W) of one image.
        classes: its usual number of classes: 10 for CIFAR-10, 1000 for ImageNet.
        macs: multiply-accumulates of conv and linear layers for one image, with `classes` classes. Written down here,
            so that a suite's cost can be estimated without importing torch; a test compares it with the counter.
        source: of the definition.
        renamed: prefix of layer names in published weights → prefix of the same layers here.
    """

    name: str
    title: str
    module: str
    input_shape: tuple[int, int, int]
    classes: int
    macs: int
    source: str
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)

    def build(self, num_classes: int) -> "nn.Module":
        """Build the network with fresh weights, drawn from torch's global generator."""
        model: nn.Module = self._family().build(self.name, num_classes)
        return model

    def initialise(self, model: "nn.Module") -> None:
        """Draw the weights that the family initialises in its own way, from torch's global generator.

        Args:
            model: this network, dense or slim, right after torch's default initialisation of its layers.
        """
        self._family().initialise(model)

    def code(self, functions: Iterable[str]) -> list[str]:
        """Functions of its family, as `daar.code.Sources` takes them: what defines it."""
        return [f"{self.module}:{function}" for function in functions]

    def _family(self) -> Any:
        return importlib.import_module(self.module)
