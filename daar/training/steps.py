"""One training step: forward, loss, backward, update; on a GPU captured once as a graph and replayed."""

from typing import Any

import torch
from torch import Tensor, nn

from daar.device import distributed
from daar.training.losses import loss as loss_of
from daar.training.recipe import Recipe
from daar.training.sgd import Sgd

# steps run before a capture: cuDNN chooses its kernels, the allocator grows
_WARM_UP = 3


class Steps:
    """Runs steps of one training.

    On CUDA a small network's step is hundreds of kernels that take less time than their launches. So the whole step is
    captured as a CUDA graph and replayed for every batch of the usual size; a shorter last batch runs kernel by kernel.
    All steps run kernel by kernel if the capture fails, and under torchrun, where a step waits for other processes.

    Args:
        model: on the device.
        recipe: lr, momentum, loss and the other settings.
        precision: bf16 or float32.
        device: of model and batches.
        teacher: in eval mode on the device, if the recipe distils; else None.

    Attributes:
        optimizer: fused SGD.
        path: how steps run, in words.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, precision: str, device: torch.device, teacher: nn.Module | None
    ) -> None:
        self._model, self._recipe, self._precision, self._device, self._teacher = (
            model, recipe, precision, device, teacher,
        )  # fmt: skip
        on_gpu = device.type == "cuda"
        self.optimizer = Sgd(
            model.parameters(),
            # a tensor: a replayed graph reads its present value
            lr=torch.tensor(recipe.lr, device=device) if on_gpu else recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self._graph: _Graph | None = None
        self._may_capture = on_gpu and distributed.processes() == 1
        self.path = "steps as one CUDA graph" if self._may_capture else "steps run kernel by kernel"

    def __call__(self, images: Tensor, labels: Tensor, lr: float, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Do one step.

        Args:
            images: (n, C, H, W), normalised; n may be 0 if other processes have the whole batch.
            labels: (n,).
            lr: of this step.
            share: n over the images of all processes.

        Returns:
            This process's part of the loss and of the number classified correctly, both () on the device.
        """
        self.optimizer.set_lr(lr)
        if self._may_capture and self._graph is None and len(images) == self._recipe.batch_size:
            self._capture(images, labels)
        if self._graph is not None and self._graph.fits(images):
            return self._graph.replay(images, labels)
        return self._step(images, labels, share)

    def _step(self, images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        loss, right = self._backward(images, labels, share) if share else _nothing(self._device)
        distributed.sum_gradients(self._model)
        self.optimizer.step()
        return loss, right

    def _backward(self, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            logits = self._model(images)
            with torch.no_grad():
                taught = self._teacher(images).float() if self._teacher is not None else None
        loss = loss_of(logits.float(), labels, taught, self._recipe)
        if share != 1:
            loss = loss * share
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _capture(self, images: Tensor, labels: Tensor) -> None:
        self._may_capture = False
        try:
            self._graph = _Graph(self._model, self.optimizer, self._step, images, labels)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            self.path = f"steps run kernel by kernel: no CUDA graph, {reason}"
            print(self.path, flush=True)


def _nothing(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)


class _Graph:
    """A captured step. Warm-up and capture leave weights, BN statistics and momenta unchanged."""

    def __init__(self, model: nn.Module, optimizer: Sgd, step: Any, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images.clone(), labels.clone()
        before = _snapshot(model, optimizer)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                step(self._images, self._labels)
        torch.cuda.current_stream().wait_stream(stream)
        optimizer.zero_grad()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss, self._right = step(self._images, self._labels)
        _restore(model, optimizer, before)

    def fits(self, images: Tensor) -> bool:
        """Whether a batch has the size of the captured one."""
        return images.shape == self._images.shape

    def replay(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Run the step on another batch."""
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss.clone(), self._right.clone()


def _snapshot(model: nn.Module, optimizer: Sgd) -> tuple[dict[str, Tensor], list[Tensor | None]]:
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    momenta = [optimizer.state[p].get("momentum_buffer") for p in model.parameters()]
    return state, [None if momentum is None else momentum.clone() for momentum in momenta]


def _restore(model: nn.Module, optimizer: Sgd, before: tuple[dict[str, Tensor], list[Tensor | None]]) -> None:
    """Copy values back into the very tensors that the graph has captured."""
    state, momenta = before
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(state[name])
        for parameter, momentum in zip(model.parameters(), momenta, strict=True):
            held = optimizer.state[parameter].get("momentum_buffer")
            if held is not None:
                # without momenta before: zero ones give the same first step
                held.zero_() if momentum is None else held.copy_(momentum)
