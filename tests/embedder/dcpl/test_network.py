"""What training and serving rely on: shapes, padding that changes nothing, gradients everywhere."""

from typing import Any, Literal

import pytest
import torch
from torch import nn

from services.embedder.dcpl.network import IMAGE_TOWERS, Architecture, Dcpl

SMALL = Architecture(vocabulary_size=20, word_dimension=12, hidden=10, dimension=16)


@pytest.fixture(scope="module")
def network() -> Dcpl:
    torch.manual_seed(1)
    return Dcpl(SMALL).eval()


@pytest.fixture(scope="module", params=IMAGE_TOWERS)
def any_tower(request: pytest.FixtureRequest) -> Dcpl:
    torch.manual_seed(1)
    return Dcpl(Architecture(request.param, 20, 12, 10, 16))


def captions(seed: int, count: int = 8, longest: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, 20, (count, longest), generator=generator)
    return words, torch.randint(1, longest + 1, (count,), generator=generator)


def test_every_tower_takes_any_image_size(any_tower: Dcpl) -> None:
    any_tower.eval()
    with torch.inference_mode():
        for height, width in [(224, 224), (96, 48), (130, 67)]:
            assert any_tower.encode_images(torch.rand(2, 3, height, width)).shape == (2, 16)
        assert any_tower.encode_images(torch.rand(1, 3, 64, 32)).shape == (1, 16)


def test_every_weight_of_every_tower_learns_from_the_first_step(any_tower: Dcpl) -> None:
    any_tower.train()
    words, lengths = captions(seed=2, count=4)
    images = any_tower.encode_images(torch.randn(4, 3, 64, 64))
    captions_of_them = any_tower.encode_captions(words, lengths)
    torch.autograd.backward((images * captions_of_them).pow(2).sum())
    idle = [
        name
        for name, weight in any_tower.named_parameters()
        if weight.grad is None or not weight.grad.isfinite().all() or not weight.grad.any()
    ]
    assert idle == []


def test_an_image_gives_the_same_vector_alone_and_among_others(any_tower: Dcpl) -> None:
    any_tower.eval()
    images = torch.rand(5, 3, 64, 32)
    with torch.inference_mode():
        together = any_tower.encode_images(images)
        alone = torch.cat([any_tower.encode_images(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * alone.abs().max().item())


@pytest.mark.parametrize("recurrence", ["bidirectional", "forward_twice"])
def test_padding_behind_the_last_word_changes_nothing(
    recurrence: Literal["bidirectional", "forward_twice"],
) -> None:
    torch.manual_seed(1)
    network = Dcpl(Architecture("mobilenet_v1", 20, 12, 10, 16, recurrence)).eval()
    words, lengths = captions(seed=3)
    behind = torch.arange(9) >= lengths[:, None]
    with torch.inference_mode():
        plain = network.encode_captions(words.masked_fill(behind, 0), lengths)
        other = network.encode_captions(words.masked_fill(behind, 7), lengths)
        longer = network.encode_captions(nn.functional.pad(words, (0, 30)), lengths)
        alone = torch.cat(
            [
                network.encode_captions(w[None, :n], n[None])
                for w, n in zip(words, lengths, strict=True)
            ]
        )
    assert torch.equal(plain, other)
    torch.testing.assert_close(plain, longer)
    torch.testing.assert_close(plain, alone)


def test_padding_gets_no_gradient(network: Dcpl) -> None:
    words, lengths = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 0]]), torch.tensor([2, 3])
    network.zero_grad()
    torch.autograd.backward(network.encode_captions(words, lengths).sum())
    gradient = network.caption_tower.embedding.weight.grad
    assert gradient is not None
    assert gradient.any(dim=1).nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


def test_captions_are_read_in_both_directions_as_a_plain_bidirectional_lstm_would() -> None:
    torch.manual_seed(2)
    network = Dcpl(SMALL).eval()
    tower = network.caption_tower
    plain = nn.LSTM(12, 10, batch_first=True, bidirectional=True)
    backwards = {f"{name}_reverse": w for name, w in tower.second.state_dict().items()}
    plain.load_state_dict(tower.first.state_dict() | backwards)
    words, lengths = captions(seed=4)
    with torch.inference_mode():
        for caption, length in zip(words, lengths, strict=True):
            states, _ = plain(tower.embedding(caption[None, :length]))
            expected = network.caption_projection(states.amax(dim=1))
            torch.testing.assert_close(
                network.encode_captions(caption[None], length[None]), expected
            )


def test_the_order_of_words_matters(network: Dcpl) -> None:
    words = torch.tensor([[3, 4, 5, 6], [6, 5, 4, 3]])
    one, other = network.encode_captions(words, torch.tensor([4, 4]))
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_half_precision_and_memory_layout_keep_the_vectors(
    network: Dcpl, precision: torch.dtype
) -> None:
    words, lengths = captions(seed=5)
    images = torch.rand(4, 3, 64, 32)
    with torch.inference_mode():
        exact = network.encode_images(images), network.encode_captions(words, lengths)
        fast = Dcpl(SMALL).eval().to(memory_format=torch.channels_last)
        fast.load_state_dict(network.state_dict())
        fast.to(precision)  # not autocast, which needs a processor that multiplies in bfloat16
        quick = (
            fast.encode_images(images.to(precision, memory_format=torch.channels_last)),
            fast.encode_captions(words, lengths),
        )
    for one, other in zip(exact, quick, strict=True):
        similarity = nn.functional.cosine_similarity(one, other.float())
        assert similarity.min() > (0.99 if precision == torch.bfloat16 else 0.99999)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_tower": "vgg16"}, "image_tower='vgg16': choose one of mobilenet_v1,"),
        ({"recurrence": "backward"}, "recurrence='backward': choose"),
        ({"hidden": 0}, "hidden=0: must be at least 1"),
        ({"vocabulary_size": -3}, "vocabulary_size=-3: must be at least 1"),
    ],
)
def test_an_impossible_architecture_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**change)
