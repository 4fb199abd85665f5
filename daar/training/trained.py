"""What a training changes from step to step: a network, its optimizer, and the average of its weights."""

from torch import nn

from daar.training.averaging import Average
from daar.training.optimizers import Optimizer


class Trained:
    """A network in training.

    Args:
        model: that the steps change.
        optimizer: of its parameters.
        decay: of the moving average of its weights; 0 for none.

    Attributes:
        average: of its weights, or None.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, decay: float) -> None:
        self.model, self.optimizer = model, optimizer
        self.average = Average(model, decay) if decay else None

    @property
    def result(self) -> nn.Module:
        """The network to be watched and kept: that of the averages if there are any."""
        return self.model if self.average is None else self.average.model

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """All networks that have statistics of their own."""
        return (self.model,) if self.average is None else (self.model, self.average.model)

    def add_step(self) -> None:
        """Take the step that was done into the average."""
        if self.average is not None:
            self.average.add(self.model)

    def finish(self) -> None:
        """Give the network itself the averages."""
        if self.average is not None:
            self.model.load_state_dict(self.average.model.state_dict())
