"""One training step: forward, loss, backward, update; on a GPU captured once as a graph and replayed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from daar.device import distributed
from daar.training import optimizers
from daar.training.bf16_weights import Bf16Weights
from daar.training.losses import ScalePenalty
from daar.training.losses import loss as loss_of
from daar.training.optimizers import Optimizer
from daar.training.recipe import Recipe

# steps run before a capture: cuDNN chooses its kernels, the allocator grows
_WARM_UP = 3


class Steps:
    """Runs steps of one training.

    On CUDA a small network's step is hundreds of kernels that take less time than their launches. So the whole step is
    captured as a CUDA graph and replayed for every batch of the usual size; a shorter last batch runs kernel by kernel.
    All steps run kernel by kernel if the capture fails, and under torchrun, where a step waits for other processes.

    The graph begins with what a batch is made of (indices and crops of images that live on the device), so that their
    gathering, normalisation and the count of correct ones are parts of it.

    Args:
        model: on the device.
        recipe: lr, momentum, loss and the other settings.
        precision: bf16 or float32.
        device: of model and batches.
        teacher: in eval mode on the device, if the recipe distils; else None.
        make: images (n, C, H, W) and labels of what a step is given.

    Attributes:
        optimizer: the recipe's.
        path: how steps run, in words.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, precision: str, device: torch.device, teacher: nn.Module | None,
        make: Callable[..., tuple[Tensor, Tensor]],
    ) -> None:  # fmt: skip
        self._model, self._recipe, self._precision, self._device, self._teacher, self._make = (
            model, recipe, precision, device, teacher, make,
        )  # fmt: skip
        self.optimizer = optimizers.make(recipe, model.parameters(), device)
        self._penalty = ScalePenalty(model, recipe.sparsity)
        self._weights: Bf16Weights | None = None
        self._graph: _Graph | None = None
        self._may_capture = device.type == "cuda" and distributed.processes() == 1
        self.path = "steps as one CUDA graph" if self._may_capture else "steps run kernel by kernel"

    def __call__(self, drawn: tuple[Tensor, ...], lr: float, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Do one step.

        Args:
            drawn: what `make` makes the batch of, (n, …) each; n may be 0 if other processes have the whole batch.
            lr: of this step.
            share: n over the images of all processes.

        Returns:
            This process's part of the loss and of the number classified correctly, both () on the device; the next
            step may write into them.
        """
        self.optimizer.set_lr(lr)
        if self._may_capture and self._graph is None and len(drawn[0]) == self._recipe.batch_size:
            self._capture(drawn)
        if self._graph is not None and self._graph.fits(drawn):
            return self._graph.replay(drawn)
        return self._step(drawn, share)

    def _step(self, drawn: tuple[Tensor, ...], share: float = 1.0) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        loss, right = self._backward(*self._make(*drawn), share) if share else _nothing(self._device)
        distributed.sum_gradients(self._model)
        self._penalty.add_gradients()
        self.optimizer.step()
        return loss, right

    def _backward(self, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
        in_bf16 = self._precision == "bf16"
        # launches of kernels are what the copies save: on a CPU they gain nothing
        if in_bf16 and self._device.type == "cuda" and self._weights is None:
            self._weights = Bf16Weights(self._model, images)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=in_bf16):
            with torch.no_grad():  # on a copy: a network may change its images in place
                taught = self._teacher(images.clone()).float() if self._teacher is not None else None
            logits = (self._model if self._weights is None else self._weights)(images)
        loss = loss_of(logits.float(), labels, taught, self._recipe)
        if share != 1:
            loss = loss * share
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        if self._weights is not None:
            self._weights.give_gradients()
        likeliest = labels.argmax(1) if labels.ndim == 2 else labels
        return loss.detach(), (logits.detach().argmax(1) == likeliest).sum()

    def _capture(self, drawn: tuple[Tensor, ...]) -> None:
        self._may_capture = False
        try:
            self._graph = _Graph(self._model, self.optimizer, self._step, drawn)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            self.path = f"steps run kernel by kernel: no CUDA graph, {reason}"
            print(self.path, flush=True)


def _nothing(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)


class _Graph:
    """A captured step. Warm-up and capture leave weights, BN statistics and the optimizer's state unchanged."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, step: Any, drawn: tuple[Tensor, ...]) -> None:
        self._drawn = tuple(part.clone() for part in drawn)
        before = _snapshot(model, optimizer)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                step(self._drawn)
        torch.cuda.current_stream().wait_stream(stream)
        optimizer.zero_grad()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss, self._right = step(self._drawn)
        _restore(model, optimizer, before)

    def fits(self, drawn: tuple[Tensor, ...]) -> bool:
        """Whether a batch has the size of the captured one."""
        return drawn[0].shape == self._drawn[0].shape

    def replay(self, drawn: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Run the step on another batch."""
        for held, part in zip(self._drawn, drawn, strict=True):
            held.copy_(part)
        self._graph.replay()
        return self._loss, self._right


Snapshot = tuple[dict[str, Tensor], list[dict[str, Tensor]]]


def _snapshot(model: nn.Module, optimizer: Optimizer) -> Snapshot:
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    kept = [{name: value.clone() for name, value in optimizer.state[p].items()} for p in model.parameters()]
    return state, kept


def _restore(model: nn.Module, optimizer: Optimizer, before: Snapshot) -> None:
    """Copy values back into the very tensors that the graph has captured."""
    state, kept = before
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(state[name])
        for parameter, had in zip(model.parameters(), kept, strict=True):
            for name, value in optimizer.state[parameter].items():
                # where there was nothing before: zeros give the same first step
                value.copy_(had[name]) if name in had else value.zero_()
