"""Imported checkpoints give the reference implementation's vectors; hostile files run nothing.

The reference implementation is stood in for by modules written here from its description alone:
its parameter names, its 7x7 pooling, its two LSTMs without biases of which the second reverses
the batch, its maximum over time, its 1x1 convolutions. They share no code with our network.
"""

import pickle
import string
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from services.embedder.dcpl.memory import at_most
from services.embedder.dcpl.model_directory import InvalidModel, load_model
from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.reference_checkpoint import (
    Variant,
    import_reference,
    read_vocabulary,
)

WORDS = ["the", "a", "Man", "man", "wearing", "red", "shirt", "and", "black", "shorts"]
CAPTIONS = ["The man, wearing a RED shirt.", "a Man", "the the red", "black shorts and a shirt"]

Spoil = Callable[[dict[str, Tensor]], object]


def convolution_block(channels: int, wider: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU6()
    )


def separable_block(channels: int, wider: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
        nn.Conv2d(channels, wider, 1, 1, 0, bias=False),
        nn.BatchNorm2d(wider),
        nn.ReLU6(),
    )


class ReferenceMobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            convolution_block(3, 32, 2),
            separable_block(32, 64, 1),
            separable_block(64, 128, 2),
            separable_block(128, 128, 1),
            separable_block(128, 256, 2),
            separable_block(256, 256, 1),
            separable_block(256, 512, 2),
            separable_block(512, 512, 1),
            separable_block(512, 512, 1),
            separable_block(512, 512, 1),
            separable_block(512, 512, 1),
            separable_block(512, 512, 1),
            separable_block(512, 1024, 2),
            separable_block(1024, 1024, 1),
            nn.AvgPool2d(7),
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images)
        return features


class Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return y.relu()


class ReferenceResNet50(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for number, (width, blocks, stride) in enumerate(
            [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)], 1
        ):
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(channels, width, 1 if block else stride))
                channels = 4 * width
            setattr(self, f"layer{number}", nn.Sequential(*layer))
        self.fc = nn.Linear(2048, 10)  # left over from ImageNet, not used

    def forward(self, images: Tensor) -> Tensor:
        x = functional.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return functional.avg_pool2d(x, 7)


class ReferenceBiLstm(nn.Module):
    def __init__(self, rows: int, word_dimension: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, word_dimension, padding_idx=0)
        self.bilstm = nn.ModuleList(
            nn.LSTM(word_dimension, hidden, bias=False, batch_first=True) for _ in range(2)
        )

    def forward(self, words: Tensor) -> Tensor:
        embedded = self.embed(words)
        batch_order = torch.arange(len(words) - 1, -1, -1)
        one, _ = self.bilstm[0](embedded)
        two, _ = self.bilstm[1](embedded[batch_order])
        states = torch.cat([one, two[batch_order]], dim=2)
        return states.max(dim=1).values[:, :, None, None]


class Reference(nn.Module):
    def __init__(self, tower: nn.Module, channels: int, rows: int) -> None:
        super().__init__()
        self.image_model = tower
        self.bilstm = ReferenceBiLstm(rows, word_dimension=24, hidden=16)
        self.conv_images = nn.Conv2d(channels, 40, 1)
        self.conv_text = nn.Conv2d(32, 40, 1)

    def image_vectors(self, images: Tensor) -> Tensor:
        projected: Tensor = self.conv_images(self.image_model(images))
        return projected.flatten(1)

    def caption_vectors(self, words: Tensor) -> Tensor:
        projected: Tensor = self.conv_text(self.bilstm(words))
        return projected.flatten(1)


def reference_network(tower: str, seed: int, rows: int) -> Reference:
    """Random weights that keep the signal alive, and statistics as training leaves them."""
    torch.manual_seed(seed)
    image_tower = ReferenceMobileNet() if tower == "mobilenet_v1" else ReferenceResNet50()
    network = Reference(image_tower, 1024 if tower == "mobilenet_v1" else 2048, rows)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.7, 1.3)
        if isinstance(module, nn.LSTM):
            for weight in module.parameters():
                nn.init.normal_(weight, std=0.5)
    return network.eval()


def reference_ids(caption: str) -> list[int]:
    """The reference's preprocessing: case kept, unknown words get the number of words."""
    bare = "".join(letter for letter in caption if letter not in string.punctuation)
    return [WORDS.index(word) if word in WORDS else len(WORDS) for word in bare.split()]


def with_prefix(network: nn.Module) -> OrderedDict[str, Tensor]:
    return OrderedDict((f"module.{key}", value) for key, value in network.state_dict().items())


def write_vocabulary(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.fixture(scope="module", params=["mobilenet_v1", "resnet50"])
def tower(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def networks(tower: str) -> dict[str, Reference]:
    rows = len(WORDS) + 5  # the reference allots more than it has words
    return {
        "network": reference_network(tower, 1, rows),
        "network_ema": reference_network(tower, 2, rows),
    }


@pytest.fixture(scope="module")
def files(
    networks: dict[str, Reference], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("reference")
    content: dict[str, Any] = {key: with_prefix(network) for key, network in networks.items()}
    content |= {"epoch": 59, "W": nn.Parameter(torch.rand(40, 7))}
    torch.save(content, folder / "59.pth.tar")
    ranks = {word: rank for rank, word in enumerate(WORDS)}
    return folder / "59.pth.tar", write_vocabulary(folder / "word_to_index.pkl", ranks)


@pytest.fixture
def small() -> dict[str, Tensor]:
    """A MobileNet checkpoint's state dict, to be spoilt."""
    return dict(with_prefix(reference_network("mobilenet_v1", seed=3, rows=len(WORDS) + 1)))


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    return write_vocabulary(tmp_path / "words.pkl", {w: rank for rank, w in enumerate(WORDS)})


@pytest.mark.parametrize("variant", ["network", "network_ema", "auto"])
def test_an_imported_checkpoint_gives_the_references_vectors(
    files: tuple[Path, Path], networks: dict[str, Reference], variant: Variant, tmp_path: Path
) -> None:
    card = import_reference(*files, tmp_path / "model", name="imported", variant=variant)
    network, loaded = load_model(tmp_path / "model")
    assert loaded == card
    assert (card.image_height, card.image_width) == (224, 224)
    reference = networks["network_ema" if variant == "auto" else variant]

    images = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(4)) * 2 - 1
    images[1] = images[1].round()  # other pictures than noise: hard edges, and a flat one
    images[2] = 0.3
    with torch.inference_mode():
        ours, theirs = network.encode_images(images), reference.image_vectors(images)
        assert_same(ours, theirs)
        # Random networks answer all images alike; what tells images apart must agree as well.
        assert_same(ours - ours.roll(1, 0), theirs - theirs.roll(1, 0))

        for caption in CAPTIONS:
            words = torch.tensor([reference_ids(caption)])
            assert loaded.vocabulary.encode(caption) == words[0].tolist()
            lengths = torch.tensor([words.shape[1]])
            alone = reference.caption_vectors(words)
            assert_same(network.encode_captions(words, lengths), alone)
            padded = functional.pad(words, (0, 6), value=loaded.vocabulary.padding)
            assert_same(network.encode_captions(padded, lengths), alone)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert functional.cosine_similarity(ours, theirs).min() >= 0.9999
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * theirs.abs().max().item())


def test_a_network_that_reads_backwards_would_give_other_vectors(
    files: tuple[Path, Path], networks: dict[str, Reference], tmp_path: Path
) -> None:
    card = import_reference(*files, tmp_path / "model", name="imported")
    forward_twice, _ = load_model(tmp_path / "model")
    assert card.architecture.recurrence == "forward_twice"
    backwards = Dcpl(Architecture(**{**vars(card.architecture), "recurrence": "bidirectional"}))
    backwards.load_state_dict(forward_twice.state_dict())
    words = torch.tensor([reference_ids(CAPTIONS[0])])
    with torch.inference_mode():
        other = backwards.encode_captions(words, torch.tensor([words.shape[1]]))
        theirs = networks["network_ema"].caption_vectors(words)
    assert functional.cosine_similarity(other, theirs).item() < 0.99


def test_a_single_network_without_prefix_is_imported_too(
    small: dict[str, Tensor], vocabulary: Path, tmp_path: Path
) -> None:
    bare = {key.removeprefix("module."): weight for key, weight in small.items()}
    torch.save({"network": bare}, tmp_path / "one.pth")
    card = import_reference(tmp_path / "one.pth", vocabulary, tmp_path / "model", name="one")
    assert "(network, epoch None)" in card.notes


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("module.bilstm.embed.weight"), "bilstm.embed.weight is missing"),
        (lambda w: w.pop("module.conv_text.weight"), "conv_text.weight is missing"),
        (lambda w: w.pop("module.bilstm.bilstm.1.weight_ih_l0"), "caption_tower.second.weight_ih"),
        (lambda w: w.update({"module.conv_text.weight": torch.ones(3)}), "instead of 4 axes"),
        (lambda w: w.pop("module.image_model.model.0.0.weight"), "neither MobileNetV1 nor"),
        (lambda w: w.update({"module.more.weight": torch.ones(1)}), "more.weight is not known"),
        (lambda w: w.update({"module.conv_text.bias": torch.ones(3)}), r"is \(3,\) instead of"),
        (lambda w: w.update({"module.conv_images.weight": torch.ones(3)}), "instead of 4 axes"),
        (lambda w: w.update({"module.conv_text.bias": 3}), "'module.conv_text.bias' is not a ten"),
        (lambda w: w.update({"module.conv_text.bias": torch.full((40,), torch.nan)}), "finite"),
        (lambda w: w.clear(), "no 'network' in it"),
    ],
)
def test_an_unusable_checkpoint_is_refused_with_the_reason(
    small: dict[str, Tensor], vocabulary: Path, tmp_path: Path, spoil: Spoil, message: str
) -> None:
    spoil(small)
    torch.save({"network": small}, tmp_path / "bad.pth")
    with pytest.raises(InvalidModel, match=message):
        import_reference(tmp_path / "bad.pth", vocabulary, tmp_path / "model", name="bad")
    assert not (tmp_path / "model" / "model.json").exists()


def test_a_vocabulary_of_another_checkpoint_is_refused(
    small: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({"network": small}, tmp_path / "good.pth")
    longer = {word: rank for rank, word in enumerate([*WORDS, "more"])}
    with pytest.raises(InvalidModel, match="11 rows, but the vocabulary needs 12"):
        import_reference(
            tmp_path / "good.pth",
            write_vocabulary(tmp_path / "longer.pkl", longer),
            tmp_path / "model",
            name="bad",
        )


class Bomb:
    """Leaves a file behind when it is unpickled by the ordinary means."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_hostile_vocabulary_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    hostile = write_vocabulary(tmp_path / "hostile.pkl", {"man": Bomb(mark)})
    with pytest.raises(InvalidModel, match="nothing in it was run"):
        read_vocabulary(hostile)
    assert not mark.exists()
    pickle.loads(hostile.read_bytes())
    assert mark.exists(), "the file would have run something, had it been trusted"


def test_a_hostile_checkpoint_runs_nothing(vocabulary: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"network": {"module.x": Bomb(mark)}}, tmp_path / "hostile.pth")
    with pytest.raises(InvalidModel, match="not a file of tensors only"):
        import_reference(tmp_path / "hostile.pth", vocabulary, tmp_path / "model", name="bad")
    assert not mark.exists()
    torch.load(tmp_path / "hostile.pth", weights_only=False)
    assert mark.exists(), "the file would have run something, had it been trusted"


class Vast:
    """16 GiB of zeros, without a word that could run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return bytearray, (16 << 30,)


def test_a_checkpoint_takes_no_more_memory_than_its_file(vocabulary: Path, tmp_path: Path) -> None:
    torch.save({"network": {"module.x": Vast()}}, tmp_path / "vast.pth")
    with pytest.raises(InvalidModel, match="damaged, or not a file of tensors"):
        import_reference(tmp_path / "vast.pth", vocabulary, tmp_path / "model", name="bad")


def test_a_checkpoint_of_repeated_numbers_takes_no_memory(
    small: dict[str, Tensor], vocabulary: Path, tmp_path: Path
) -> None:
    """One number, shown as a matrix of 16 GiB."""
    small["module.conv_text.weight"] = torch.zeros(1).expand(65_000, 65_000, 1, 1)
    torch.save({"network": small}, tmp_path / "vast.pth")
    with at_most(256 << 20), pytest.raises(InvalidModel, match=r"vast\.pth: "):
        import_reference(tmp_path / "vast.pth", vocabulary, tmp_path / "model", name="bad")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, vocabulary: Path, content: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(InvalidModel, match="damaged"):
        import_reference(tmp_path / "bad.pth", vocabulary, tmp_path / "model", name="bad")
