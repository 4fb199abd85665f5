"""The loss, against its closed form in numpy and its gradient by hand."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import nn

from daar.errors import InputError
from daar.training.losses import ScalePenalty, loss
from daar.training.recipe import Recipe

CASES = [
    {},
    {"label_smoothing": 0.1},
    {"distillation": 0.5},
    {"distillation": 0.9, "temperature": 2.5, "label_smoothing": 0.2},
    {"distillation": 1.0, "temperature": 1.0},
]


def draw(images: int = 7, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    student, teacher = (5 * torch.randn(images, classes, generator=random, dtype=torch.float64) for _ in range(2))
    return student, torch.randint(classes, (images,), generator=random), teacher


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_value_is_the_closed_form(settings: dict[str, float]) -> None:
    student, labels, teacher = draw()
    recipe = Recipe(**settings)  # type: ignore[arg-type]
    alpha, t, smoothing = recipe.distillation, recipe.temperature, recipe.label_smoothing
    target = (1 - smoothing) * np.eye(10)[labels] + smoothing / 10
    hard = -(target * np.log(softmax(student.numpy(), axis=1))).sum(1)
    soft = entropy(softmax(teacher.numpy() / t, axis=1), softmax(student.numpy() / t, axis=1), axis=1)
    expected = np.mean((1 - alpha) * hard + alpha * t**2 * soft)
    computed = loss(student, labels, teacher if alpha else None, recipe)
    assert computed.dtype == torch.float32
    assert float(computed) == pytest.approx(expected, rel=1e-5)


def test_gradient_is_that_of_hinton_et_al() -> None:
    """Eq. 2: the soft term's is (q − p) / T per image; T² of it stands in the loss."""
    student, labels, teacher = draw()
    student.requires_grad_()
    teacher.requires_grad_()
    loss(student, labels, teacher, Recipe(distillation=1.0, temperature=3.0)).backward()
    q, p = (softmax(z.detach().numpy() / 3, axis=1) for z in (student, teacher))
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), 3 * (q - p) / len(labels), atol=1e-6)
    assert teacher.grad is None


def test_a_student_that_agrees_with_its_teacher_loses_nothing() -> None:
    _, labels, teacher = draw()
    assert float(loss(teacher, labels, teacher, Recipe(distillation=1.0))) == pytest.approx(0, abs=1e-6)


def test_half_precision_logits_are_worked_on_in_float32() -> None:
    student, labels, teacher = (z.to(torch.bfloat16) if z.is_floating_point() else z for z in draw())
    recipe = Recipe(distillation=0.5)
    assert loss(student, labels, teacher, recipe).equal(loss(student.float(), labels, teacher.float(), recipe))


def test_a_teacher_is_ignored_where_the_recipe_has_none_and_missed_where_it_has_one() -> None:
    student, labels, teacher = draw()
    assert loss(student, labels, teacher, Recipe()).equal(loss(student, labels, None, Recipe()))
    with pytest.raises(AssertionError, match="no teacher"):
        loss(student, labels, None, Recipe(distillation=0.5))


def test_shares_of_mixed_images_weigh_the_classes_losses() -> None:
    """Cross-entropy is linear in the target: that of a mixed label is the mix of both labels' (Zhang et al., Eq. 2)."""
    student, labels, _ = draw()
    others = labels.roll(1)
    shares = 0.3 * torch.eye(10)[labels] + 0.7 * torch.eye(10)[others]
    for smoothing in (0.0, 0.1):
        recipe = Recipe(label_smoothing=smoothing)
        expected = 0.3 * loss(student, labels, None, recipe) + 0.7 * loss(student, others, None, recipe)
        assert float(loss(student, shares, None, recipe)) == pytest.approx(float(expected), rel=1e-5)


def test_the_penalty_s_gradients_are_autograd_s_of_the_sum_of_scales() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2, affine=False))
    model.append(nn.BatchNorm2d(2))
    scales: list[torch.Tensor] = [model.get_parameter(f"{norm}.weight") for norm in (1, 4)]
    with torch.no_grad():
        for scale in scales:
            scale.normal_()
        scales[0][1] = 0.0  # whose subgradient is 0
    images = torch.randn(5, 3, 8, 8)
    (model(images).square().sum() + 0.3 * torch.cat(scales).abs().sum()).backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    penalty = ScalePenalty(model, 0.3)
    model(images).square().sum().backward()
    penalty.add_gradients()
    for one, other in zip(model.parameters(), expected, strict=True):
        assert one.grad is not None
        assert other is not None
        assert torch.allclose(one.grad, other, atol=1e-5)


def test_a_penalty_on_no_scales_is_refused() -> None:
    with pytest.raises(InputError, match=r"sparsity is 0\.1, but the network has no BN layer with a scale to train"):
        ScalePenalty(nn.Sequential(nn.Conv2d(3, 4, 3)), 0.1)
    ScalePenalty(nn.Sequential(nn.Conv2d(3, 4, 3)), 0.0).add_gradients()
