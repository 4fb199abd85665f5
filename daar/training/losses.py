"""The training loss: cross-entropy with the labels, distillation from a teacher, and a penalty on BN's scales."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daar.errors import InputError
from daar.training.recipe import Recipe


def loss(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, recipe: Recipe) -> Tensor:
    """(1 − α) · CE(labels, student) + α · T² · KL(teacher ‖ student), with α `distillation` and T `temperature`.

    Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2: both distributions of the
    second term are softmax(logits / T) (their Eq. 1). Its gradient falls as 1 / T² (Eqs. 2-4); the factor T² keeps it
    as large as that of the first term, a usual cross-entropy at T = 1. They write a cross-entropy instead of the
    divergence; the two differ by the teacher's entropy, which does not depend on the student: gradients are equal, and
    the least value is 0. CE uses the recipe's label smoothing.

    Args:
        logits: (N, classes) of the student, in any precision; the loss is computed in float32.
        labels: (N,) int64, or (N, classes) float32, the shares of mixed images.
        teacher_logits: (N, classes) of the dense network for the same augmented images, in eval mode, detached here;
            None only where α is 0.
        recipe: gives α, T and label smoothing.

    Returns:
        The mean over the images, a scalar in float32.
    """
    logits, alpha = logits.float(), recipe.distillation
    hard = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if alpha == 0:
        return hard
    assert teacher_logits is not None, "a recipe with distillation was given no teacher"
    student, teacher = (F.log_softmax(z / recipe.temperature, 1) for z in (logits, teacher_logits.detach().float()))
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return (1 - alpha) * hard + alpha * recipe.temperature**2 * soft


class ScalePenalty:
    """λ Σ|γ| over the scales of all BN layers: network slimming's penalty (Liu et al. 2017, Eq. 1).

    It is not in the reported loss: its subgradient λ sign(γ) is added to the gradients.

    Args:
        model: that is trained.
        weight: λ, the recipe's `sparsity`; 0 for none.

    Raises:
        InputError: λ is above 0, and there is no BN layer with a scale.
    """

    def __init__(self, model: nn.Module, weight: float) -> None:
        kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
        norms = [module for module in model.modules() if isinstance(module, kinds)] if weight else []
        self._scales: list[Tensor] = [
            norm.weight for norm in norms if norm.weight is not None and norm.weight.requires_grad
        ]
        self._weight = weight
        if weight and not self._scales:
            raise InputError(
                f"sparsity is {weight:g}, but the network has no BN layer with a scale to train. Take it out of the "
                "recipe."
            )

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the penalty's gradients to those that are there."""
        scales = [scale for scale in self._scales if scale.grad is not None]
        if scales:
            signs = torch._foreach_sign(scales)
            torch._foreach_add_([scale.grad for scale in scales if scale.grad is not None], signs, alpha=self._weight)
