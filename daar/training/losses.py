"""The training loss: cross-entropy with the labels, plus distillation from a teacher where the recipe says so."""

import torch.nn.functional as F
from torch import Tensor

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
        labels: (N,) int64.
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
