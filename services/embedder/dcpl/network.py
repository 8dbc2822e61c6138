"""The network: an image tower and a caption tower, each projected into the shared space.

After Zhang & Lu, "Deep Cross-Modal Projection Learning for Image-Text Matching", ECCV 2018.
"""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from passerby.limits import Limit

SIDE = Limit("dimension of a network", 65_536, "numbers", "the model is refused")
VOCABULARY = Limit("vocabulary of a model", 500_000, "ids", "the model is refused")


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build the network anew before its weights are loaded."""

    image_tower: str = "mobilenet_v1"
    """One of IMAGE_TOWERS."""
    vocabulary_size: int = 12_000
    """Rows of the word embedding: the words and the padding and unknown ids."""
    word_dimension: int = 512
    hidden: int = 512
    """Of each of the two recurrences."""
    dimension: int = 512
    """Of the shared space."""
    recurrence: Literal["bidirectional", "forward_twice"] = "bidirectional"
    """forward_twice: both recurrences read from the first word to the last, as they do in the
    reference implementation, which means to reverse time but reverses the batch. Its checkpoints
    need it; as an ablation it tells what reading backwards is worth."""

    def __post_init__(self) -> None:
        if self.image_tower not in IMAGE_TOWERS:
            raise ValueError(
                f"image_tower={self.image_tower!r}: choose one of {', '.join(IMAGE_TOWERS)}"
            )
        if self.recurrence not in ("bidirectional", "forward_twice"):
            raise ValueError(
                f"recurrence={self.recurrence!r}: choose bidirectional or forward_twice"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int):
                continue
            if value < 1:
                raise ValueError(f"{field.name}={value}: must be at least 1")
            limit = VOCABULARY if field.name == "vocabulary_size" else SIDE
            if value > limit.value:
                raise ValueError(f"{field.name}: {limit.exceeded(value)}")


class Dcpl(nn.Module):
    """Two encoders that meet in one space; neither modality passes through the other's."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.image_tower, image_features = build_image_tower(architecture.image_tower)
        self.caption_tower = CaptionTower(architecture)
        self.image_projection = nn.Linear(image_features, architecture.dimension)
        self.caption_projection = nn.Linear(2 * architecture.hidden, architecture.dimension)
        for projection in (self.image_projection, self.caption_projection):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def encode_images(self, images: Tensor) -> Tensor:
        """images: (batch, 3, height, width) float, normalised as the model card says (usually to
        [-1, 1]), of any size. Returns (batch, dimension), not L2-normalised.
        """
        features: Tensor = self.image_tower(images)  # (batch, image features)
        vectors: Tensor = self.image_projection(features)
        return vectors

    def encode_captions(self, words: Tensor, lengths: Tensor) -> Tensor:
        """words: (batch, longest) int64, lengths: (batch,) int64 of the words that exist.

        What stands behind a caption's last word, and how much, changes nothing. A length of 0 is
        the caller's mistake: there is nothing to encode and its vector is not finite.
        Returns (batch, dimension), not L2-normalised.
        """
        features: Tensor = self.caption_tower(words, lengths)  # (batch, 2 x hidden)
        vectors: Tensor = self.caption_projection(features)
        return vectors


class CaptionTower(nn.Module):
    """Word embedding, two recurrences, and for each of their outputs its maximum over the words."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.reads_backwards = architecture.recurrence == "bidirectional"
        word_dimension, hidden = architecture.word_dimension, architecture.hidden
        self.embedding = nn.Embedding(architecture.vocabulary_size, word_dimension)
        self.first = nn.LSTM(word_dimension, hidden, batch_first=True)
        self.second = nn.LSTM(word_dimension, hidden, batch_first=True)
        for lstm in (self.first, self.second):
            _initialise_lstm(lstm)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """(batch, longest), (batch,) -> (batch, 2 x hidden)."""
        position = torch.arange(words.shape[1], device=words.device)
        exists = position < lengths[:, None]  # (batch, longest)
        # Each caption is reversed within its own length, so that in both orders the padding comes
        # last, where no state of an existing word has seen it. No packing is needed, the fast
        # kernels apply, and the outputs need no turning back: a maximum knows no order.
        order = (lengths[:, None] - 1 - position).clamp(min=0)
        second_words = words.gather(1, order) if self.reads_backwards else words
        pooled = [
            _maximum_over_words(lstm(self.embedding(ordered))[0], exists)
            for lstm, ordered in ((self.first, words), (self.second, second_words))
        ]
        return torch.cat(pooled, dim=1)


def _maximum_over_words(states: Tensor, exists: Tensor) -> Tensor:
    """states: (batch, longest, hidden), exists: (batch, longest) bool -> (batch, hidden)."""
    return states.masked_fill(~exists[:, :, None], float("-inf")).amax(dim=1)


def _initialise_lstm(lstm: nn.LSTM) -> None:
    """Xavier for the input, orthogonal for the state, and a forget gate that starts open."""
    for name, weight in lstm.named_parameters():
        gates = weight.data.chunk(4)  # input, forget, cell, output
        if name.startswith("weight_ih"):
            for gate in gates:
                nn.init.xavier_uniform_(gate)
        elif name.startswith("weight_hh"):
            for gate in gates:
                nn.init.orthogonal_(gate)
        else:
            nn.init.zeros_(weight)
            if name.startswith("bias_ih"):
                nn.init.ones_(gates[1])


# Output channels and stride of MobileNetV1's depthwise separable blocks.
MOBILENET_V1_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_v1() -> nn.Sequential:
    """MobileNetV1 (Howard et al., 2017) without its classifier: (batch, 3, h, w) -> (batch, 1024).

    ReLU6 as in the authors' TensorFlow model, which the DCPL paper starts from. Pooled over
    whatever area is left, so that pedestrians need not be squashed to a square.
    """
    channels = 32
    blocks = [nn.Sequential(*_convolution(3, channels, 3, stride=2))]
    for wider, stride in MOBILENET_V1_BLOCKS:
        depthwise = _convolution(channels, channels, 3, stride=stride, groups=channels)
        blocks.append(nn.Sequential(*depthwise, *_convolution(channels, wider, 1)))
        channels = wider
    tower = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            # By what flows in: a depthwise filter has 9 inputs, however many channels there are.
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return tower


def _convolution(
    channels: int, wider: int, size: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU6]:
    convolution = nn.Conv2d(
        channels, wider, size, stride, padding=size // 2, groups=groups, bias=False
    )
    return convolution, nn.BatchNorm2d(wider), nn.ReLU6(inplace=True)


IMAGE_TOWERS = ("mobilenet_v1", "mobilenet_v3_large", "resnet50", "convnext_tiny")


def build_image_tower(name: str) -> tuple[nn.Module, int]:
    """A freshly initialised tower (batch, 3, height, width) -> (batch, features), and its features.

    torchvision's towers keep torchvision's parameter names (only the last layer is gone), so that
    its ImageNet files fit.
    """
    if name == "mobilenet_v1":
        return mobilenet_v1(), MOBILENET_V1_BLOCKS[-1][0]
    # Only here: torchvision brings PyTorch's compiler with it, which more than doubles the time
    # that a process takes to start.
    from torchvision import models

    if name == "resnet50":
        resnet = models.resnet50()
        resnet.fc = nn.Identity()
        return resnet, 2048
    if name == "mobilenet_v3_large":
        mobilenet = models.mobilenet_v3_large()
        mobilenet.classifier = nn.Identity()
        return mobilenet, 960
    if name == "convnext_tiny":
        convnext = models.convnext_tiny()
        convnext.classifier[2] = nn.Identity()  # the norm and the flattening before it stay
        return convnext, 768
    raise ValueError(f"image_tower={name!r}: choose one of {', '.join(IMAGE_TOWERS)}")
