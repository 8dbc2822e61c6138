"""The losses against values worked out by hand and a literal transcription of the papers."""

import copy
import math

import pytest
import torch
from torch import Tensor

from services.embedder.dcpl.losses import CmpcLoss, cmpm_loss, contrastive_loss

EPSILON = 1e-8


def dot(x: list[float], z: list[float]) -> float:
    return sum(a * b for a, b in zip(x, z, strict=True))


def unit(x: list[float]) -> list[float]:
    length = math.sqrt(dot(x, x))
    return [a / length for a in x]


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in values]
    return [e / sum(exponentials) for e in exponentials]


def slow_cmpm(images: Tensor, captions: Tensor, identities: Tensor) -> float:
    """Equations 1 to 5, one pair at a time."""
    total = 0.0
    for rows, columns in [(images, captions), (captions, images)]:
        x, z, y = rows.tolist(), columns.tolist(), identities.tolist()
        n = len(x)
        for i in range(n):
            p = softmax([dot(x[i], unit(z[j])) for j in range(n)])
            matches = [float(y[i] == y[j]) for j in range(n)]
            q = [match / sum(matches) for match in matches]
            total += sum(p[j] * math.log(p[j] / (q[j] + EPSILON)) for j in range(n)) / n
    return total


def slow_contrastive(images: Tensor, captions: Tensor, identities: Tensor) -> float:
    """Of each vector: the mean over its positives of -log p, one pair at a time."""
    total = 0.0
    for rows, columns in [(images, captions), (captions, images)]:
        x, z, y = rows.tolist(), columns.tolist(), identities.tolist()
        for i in range(len(x)):
            p = softmax([dot(x[i], unit(other)) for other in z])
            positives = [-math.log(p[j]) for j in range(len(z)) if y[j] == y[i]]
            total += sum(positives) / len(positives) / len(x)
    return total


def slow_cmpc(images: Tensor, captions: Tensor, identities: Tensor, weight: Tensor) -> float:
    """The norm-softmax of each projected vector, one at a time."""
    total = 0.0
    classes = [unit(column) for column in weight.T.tolist()]
    for rows, columns in [(images, captions), (captions, images)]:
        for x, z, y in zip(rows.tolist(), columns.tolist(), identities.tolist(), strict=True):
            length = dot(x, unit(z))
            projected = [length * a for a in unit(z)]
            total -= math.log(softmax([dot(w, projected) for w in classes])[y]) / len(rows)
    return total


def pairs(
    seed: int, count: int = 7, dimension: int = 5, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, dimension, generator=generator, dtype=torch.float64) * scale
    captions = torch.randn(count, dimension, generator=generator, dtype=torch.float64) * scale
    return images, captions, torch.randint(0, 4, (count,), generator=generator)


def test_cmpm_of_two_people_worked_out_by_hand() -> None:
    # Image 0 projects 3 long onto caption 0's direction and 0 onto caption 1's, and so on:
    # projections image to caption [[3, 0], [0, 1]], caption to image [[2, 0], [0, 5]].
    images = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    captions = torch.tensor([[2.0, 0.0], [0.0, 5.0]])

    def row(right: float) -> float:
        p = math.exp(right) / (math.exp(right) + 1)
        return p * math.log(p / (1 + 1e-8)) + (1 - p) * math.log((1 - p) / 1e-8)

    expected = (row(3) + row(1)) / 2 + (row(2) + row(5)) / 2
    assert cmpm_loss(images, captions, torch.tensor([8, 9])).item() == pytest.approx(expected)


def test_cmpm_of_one_person_twice_is_how_far_the_rows_are_from_even() -> None:
    images = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    captions = torch.tensor([[2.0, 0.0], [0.0, 5.0]])

    def row(one: float) -> float:
        p = math.exp(one) / (math.exp(one) + 1)
        return p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)

    expected = (row(3) + row(1)) / 2 + (row(2) + row(5)) / 2
    assert cmpm_loss(images, captions, torch.tensor([8, 8])).item() == pytest.approx(expected)


def test_cmpm_is_zero_when_the_projections_say_exactly_who_matches() -> None:
    images = torch.eye(3, dtype=torch.float64) * 100
    assert cmpm_loss(images, images, torch.arange(3)).item() == pytest.approx(0, abs=1e-6)
    same = torch.ones(4, 3, dtype=torch.float64)
    assert cmpm_loss(same, same, torch.zeros(4)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_cmpm_never_falls_below_zero(seed: int) -> None:
    """Up to epsilon. With the true distribution divided by its L2 norm it would."""
    images, captions, identities = pairs(seed, scale=0.1)
    assert cmpm_loss(images, captions, identities // 2).item() > -1e-7


@pytest.mark.parametrize("seed", range(5))
def test_cmpm_is_the_papers_equations(seed: int) -> None:
    batch = pairs(seed)
    assert cmpm_loss(*batch).item() == pytest.approx(slow_cmpm(*batch), rel=1e-9)


def test_contrastive_of_two_people_worked_out_by_hand() -> None:
    # The projections of the first test: [[3, 0], [0, 1]] and [[2, 0], [0, 5]].
    images = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    captions = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    expected = sum(math.log(1 + math.exp(-right)) for right in (3, 1, 2, 5)) / 2
    loss = contrastive_loss(images, captions, torch.tensor([8, 9]))
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_contrastive_is_the_mean_over_all_positives(seed: int) -> None:
    batch = pairs(seed)
    assert contrastive_loss(*batch).item() == pytest.approx(slow_contrastive(*batch), rel=1e-9)


def test_a_match_without_probability_is_moved_by_contrastive_and_not_by_cmpm() -> None:
    """Caption 0 points away from its image, which has another caption far ahead of it."""
    captions = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    identities = torch.tensor([0, 1])
    moved = []
    for loss in (cmpm_loss, contrastive_loss):
        images = torch.tensor([[20.0, 0.0], [20.0, 0.0]], requires_grad=True)
        torch.autograd.backward(loss(images, captions, identities))
        assert images.grad is not None
        moved.append(images.grad[0, 0].item())
    assert abs(moved[0]) < 1e-6
    assert moved[1] > 0.5


def test_cmpc_of_two_people_worked_out_by_hand() -> None:
    # The classes look along the axes, whatever the length of their weights. Image (3, 4) projected
    # onto caption (2, 0) is (3, 0), onto class 0: 3, onto class 1: 0. Caption (2, 0) projected
    # onto the image's direction (0.6, 0.8) is 1.2 x (0.6, 0.8) = (0.72, 0.96).
    loss = CmpcLoss(2, 2)
    loss.weight.data = torch.tensor([[7.0, 0.0], [0.0, 0.1]])
    expected = -math.log(math.exp(3) / (math.exp(3) + 1)) - math.log(
        math.exp(0.72) / (math.exp(0.72) + math.exp(0.96))
    )
    value = loss(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_cmpc_is_the_papers_equations(seed: int) -> None:
    images, captions, identities = pairs(seed)
    loss = CmpcLoss(5, 4).double()
    expected = slow_cmpc(images, captions, identities, loss.weight.detach())
    assert loss(images, captions, identities).item() == pytest.approx(expected, rel=1e-9)


def test_the_gradients_are_right() -> None:
    images, captions, identities = pairs(seed=1, count=4, dimension=3)
    images.requires_grad_()
    captions.requires_grad_()
    assert torch.autograd.gradcheck(cmpm_loss, (images, captions, identities))
    assert torch.autograd.gradcheck(contrastive_loss, (images, captions, identities))
    loss = CmpcLoss(3, 4).double()

    def cmpc(images: Tensor, captions: Tensor, weight: Tensor) -> Tensor:
        value: Tensor = torch.func.functional_call(
            loss, {"weight": weight}, (images, captions, identities)
        )
        return value

    assert torch.autograd.gradcheck(cmpc, (images, captions, loss.weight))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_bfloat16_vectors_of_any_length_give_the_loss_of_their_values(scale: float) -> None:
    images, captions, identities = pairs(seed=2, count=64, dimension=128, scale=scale)
    images, captions = images.bfloat16(), captions.bfloat16()
    images.requires_grad_()
    classification = CmpcLoss(128, 4)
    with torch.autocast("cpu", torch.bfloat16):
        losses = (
            cmpm_loss(images, captions, identities),
            contrastive_loss(images, captions, identities),
            classification(images, captions, identities),
        )
    exact = images.detach().double(), captions.double(), identities
    assert [loss.dtype for loss in losses] == [torch.float32] * 3
    assert losses[0].item() == pytest.approx(cmpm_loss(*exact).item(), rel=1e-4)
    assert losses[1].item() == pytest.approx(contrastive_loss(*exact).item(), rel=1e-4)
    in_double = copy.deepcopy(classification).double()
    # Its product with the class weights is rounded to the 8 bits of bfloat16.
    assert losses[2].item() == pytest.approx(in_double(*exact).item(), rel=2**-9)
    torch.autograd.backward(losses)
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_a_vector_of_zeros_gives_finite_losses_and_gradients() -> None:
    images = torch.zeros(2, 3, requires_grad=True)
    captions = torch.rand(2, 3, requires_grad=True)
    identities = torch.tensor([0, 1])
    pairs = images, captions, identities
    total = cmpm_loss(*pairs) + contrastive_loss(*pairs) + CmpcLoss(3, 2)(*pairs)
    total.backward()
    for vectors in (total, images.grad, captions.grad):
        assert vectors is not None
        assert vectors.isfinite().all()


def test_the_papers_losses_pull_pairs_together_and_people_apart() -> None:
    torch.manual_seed(1)
    images = torch.randn(6, 4, requires_grad=True)
    captions = torch.randn(6, 4, requires_grad=True)
    identities = torch.tensor([0, 0, 1, 1, 2, 2])
    classification = CmpcLoss(4, 3)
    optimizer = torch.optim.Adam([images, captions, *classification.parameters()], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = cmpm_loss(images, captions, identities) + classification(
            images, captions, identities
        )
        loss.backward()
        optimizer.step()
    similarity = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(captions).T
    matches = identities[:, None] == identities
    assert similarity[matches].min() > similarity[~matches].max() + 0.5
