"""What a training run does, as data: network, images, losses, optimiser; and the presets."""

from dataclasses import dataclass, field, replace
from typing import Literal

from services.embedder.dcpl.network import Architecture


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed, each drawn anew for each image of a batch."""

    flip: bool = True
    smallest_crop: float = 1.0
    """Of the area; a random part at least this large is scaled to the image's size."""
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    """No hue: captions name colours."""
    erase: float = 0.0
    """Chance that a rectangle of 5 to 20 % of the image becomes grey."""


@dataclass(frozen=True)
class Recipe:
    """One training run. Epochs count images, whatever the number of captions and processes."""

    architecture: Architecture
    image_height: int = 224
    image_width: int = 224
    epochs: int = 60
    batch_size: int = 128
    images_per_identity: int = 1
    """At most so many images of a person stand together in a batch."""
    captions_per_image: int = 1
    minimum_word_count: int = 2
    word_dropout: float = 0.0
    """Chance that a word becomes the unknown word, so that unknown words do not surprise."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    cmpm_weight: float = 1.0
    cmpc_weight: float = 1.0
    contrastive_weight: float = 0.0

    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    tower_rate_factor: float = 1.0
    """Rate of the image tower relative to the rest; below 1 for a pretrained tower."""
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    hold: float = 1.0
    """Share of the run after which the rate, until then constant, falls to nothing by a cosine."""
    clip_norm: float = 0.0
    """Gradients whose norm is above this are scaled down to it; 0 leaves them alone."""
    ema_decay: float = 0.0
    """0 keeps no average: the last weights are the model."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """bfloat16: where the device multiplies in it; elsewhere float32."""
    channels_last: bool = True
    fast: bool = True
    """Whether training/fast replaces modules by faster ones, which learn the same."""
    patience: int = 0
    """Epochs without a better validation Rank-1 before the run stops, counted once the rate falls
    (if it ever does); 0 never stops early."""
    seed: int = 1


# Exactly the paper's network and losses with its optimiser (Adam, 2e-4, batches of 16).
PAPER = Recipe(
    architecture=Architecture(),
    batch_size=16,
    minimum_word_count=1,
    optimizer="adam",
    learning_rate=2e-4,
    weight_decay=0.0,
    warmup_epochs=0,
    precision="float32",
    channels_last=False,
)

# The best recipe found here; docs/training.md has the figures and what each part is worth.
RECOMMENDED = Recipe(
    architecture=Architecture(),
    image_height=256,
    image_width=128,
    batch_size=64,
    images_per_identity=2,
    captions_per_image=2,
    word_dropout=0.05,
    augmentation=Augmentation(
        smallest_crop=0.75, brightness=0.2, contrast=0.2, saturation=0.15, erase=0.3
    ),
    contrastive_weight=4.0,
    learning_rate=2e-3,
    warmup_epochs=0.1,
    hold=0.6,
    clip_norm=20.0,
    ema_decay=0.99,
    patience=15,
)

# For a processor without a GPU.
SMALL = replace(
    RECOMMENDED,
    architecture=Architecture(word_dimension=256, hidden=256, dimension=256),
    image_height=128,
    image_width=64,
    epochs=16,
    patience=0,
)

PRESETS = {"paper": PAPER, "recommended": RECOMMENDED, "small": SMALL}
