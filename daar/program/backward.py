"""Gradients of the loss: a recorded program run again with autograd, some images at a time."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.device.precision import strict_float32
from daar.errors import InputError, said
from daar.program.draws import seeded
from daar.program.inputs import Images, count, first, split, usable
from daar.program.outputs import tensors
from daar.program.program import Program, Ref, refs, replaced
from daar.program.recording import held_as
from daar.program.replay import Replay, changed


class Backward(Replay):
    """A network's operations for a batch of any size, with gradients of the loss, whatever mode the caller is in.

    The network itself is run only to be recorded: neither its parameters' `grad` nor its hooks see anything of this.

    Args:
        model: the network; left as it is.
        images: as it is used with, on its device.
        labels: (N,) the class of each image.

    Raises:
        InputError: the network does not return logits (N, C), or the labels are not classes of the images.
    """

    def __init__(self, model: nn.Module, images: Images, labels: Tensor) -> None:
        super().__init__(model, images)
        self._images = images
        self._labels = _classes(labels, count(images), self.program.shapes[self._logits()][1])

    def _logits(self) -> int:
        """The number of the tensor that the labels are compared with."""
        made = [ref.number for ref in refs(self.program.output)]
        shapes = {number: self.program.shapes[number] for number in made}
        fit = [n for n, shape in shapes.items() if len(shape) == 2 and shape[0] == self.program.batch and shape[1] > 1]
        if len(fit) != 1 or not self.program.dtypes[fit[0]].is_floating_point:
            got = ", ".join(str(("N", *shape[1:])).replace("'", "") for shape in shapes.values()) or "no tensor"
            raise InputError(
                f"a loss by labels needs a network with one output of logits (N, C), C at least 2; got {got}. Choose "
                "a method that reads no labels."
            )
        return fit[0]

    def passes(
        self, wanted: Sequence[int], batch_size: int
    ) -> Iterator[tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]]:
        """Run the network on some images at a time.

        Args:
            wanted: numbers of the tensors to differentiate by, parameters or what operations make.
            batch_size: images per pass; bounds the memory.

        Yields:
            For each pass the cross-entropy of each image, (n,); number → the tensor's values; and number → the
            gradient of the losses' sum. Of what has an entry for each image, those of this pass's images.

        Raises:
            InputError: an operation of the network cannot be differentiated.
        """
        linear, start = self.is_linear(), 0
        for batch in split(self._images, batch_size):
            program = self._bound(batch, len(self.program.operations), linear)
            size = count(batch) if program is not None else self.program.batch
            for part in split(batch, size):  # as many as it was recorded for, where others run for more
                labels = self._labels[start : start + count(part)]
                start += len(labels)
                yield self._differentiated(program or self.program, first(part, size), labels, wanted)

    def _differentiated(
        self, program: Program, images: Images, labels: Tensor, wanted: Sequence[int]
    ) -> tuple[Tensor, dict[int, Tensor], dict[int, Tensor]]:
        try:
            with torch.inference_mode(mode=False), torch.enable_grad(), strict_float32(), seeded():
                points, output = self._run(program, images, wanted)
                losses = F.cross_entropy(output[: len(labels)], usable(labels), reduction="none")
                found = _gradients(losses, points)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # torch's, of an operation without a derivative
            raise InputError(
                f"{type(self._model).__name__} has no gradients: {said(error, 300)}. Choose a method that needs none."
            ) from error
        of_images = program.of_images() if len(labels) < program.batch else set()

        def own(values: dict[int, Tensor]) -> dict[int, Tensor]:
            return {n: v[: len(labels)].detach() if n in of_images else v.detach() for n, v in values.items()}

        return losses.detach(), own(points), own(found)

    def _run(self, program: Program, images: Images, wanted: Sequence[int]) -> tuple[dict[int, Tensor], Tensor]:
        """Number → the tensor to differentiate by, which nothing overwrites; and the logits."""
        held = {number: _plain(held_as(self._model, name)) for number, name in program.leaves.items()}
        held.update({number: _plain(value) for number, value in program.constants.items()})
        held.update(zip(program.inputs, tensors(usable(images)), strict=True))
        for number in changed(program):
            held[number] = held[number].clone()
        points: dict[int, Tensor] = {}
        for number in set(wanted) & held.keys():
            points[number], held[number] = _point(held[number])
        logits = self._logits()
        last = {number: op.index for op in program.operations for number in op.reads()} | {
            logits: len(program.operations)
        }
        for operation in program.operations:
            args, kwargs = replaced((list(operation.args), operation.kwargs), Ref, lambda ref: held[ref.number])
            for number, value in zip(operation.makes(), tensors(operation.function(*args, **kwargs)), strict=True):
                held[number] = value
                if number in wanted:
                    points[number], held[number] = _point(value)
            for number in [*operation.reads(), *operation.makes()]:
                if last.get(number, -1) <= operation.index:
                    held.pop(number, None)
        return points, held[logits]


def _plain(value: Tensor) -> Tensor:
    """A tensor that autograd can save, without a history."""
    return value.clone() if value.is_inference() else value.detach()


def _point(value: Tensor) -> tuple[Tensor, Tensor]:
    """The tensor to differentiate by, and one that stands in for it and may be changed in place."""
    point = value if value.requires_grad else value.detach().requires_grad_()
    return point, point.clone()


def _gradients(losses: Tensor, points: dict[int, Tensor]) -> dict[int, Tensor]:
    """Of the losses' sum; zeros where the loss does not depend on a tensor."""
    if not points or not losses.requires_grad:
        return {number: torch.zeros_like(point) for number, point in points.items()}
    found = torch.autograd.grad(losses.sum(), list(points.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(points, found, strict=True))


def _classes(labels: Tensor, images: int, classes: int) -> Tensor:
    """The labels, if each image has one that the network knows."""
    fix = "Give each image its class, or choose a method that reads no labels."
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
    if not whole or tuple(labels.shape) != (images,):
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels should be classes, whole numbers ({images},), one for each image; got {got}. {fix}")
    labels = labels.to(torch.int64)
    if images and not bool(((labels >= 0) & (labels < classes)).all()):
        raise InputError(
            f"labels should be from 0 to {classes - 1}, the classes of the network's logits (N, {classes}); got "
            f"{int(labels.min())} to {int(labels.max())}. {fix}"
        )
    return labels
