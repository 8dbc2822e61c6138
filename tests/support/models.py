"""A tiny network with random weights: its vectors mean nothing, but are always the same."""

from pathlib import Path

import torch
from torch import nn

from services.embedder.dcpl.model_directory import ModelCard, save_model
from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary

# All the words that these models know.
SENTENCE = "a woman and the man in red, blue, green or purple dress, coat, jacket, shoes with bag"
DIMENSION = 16


def random_network(image_tower: str = "mobilenet_v1", seed: int = 0) -> tuple[Dcpl, ModelCard]:
    """Not trained, but with statistics and offsets that folding has to respect.

    Images are 64 high and 32 wide, vectors DIMENSION long.
    """
    vocabulary = Vocabulary.build([SENTENCE])
    architecture = Architecture(image_tower, len(vocabulary), 32, 48, DIMENSION)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Dcpl(architecture).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    card = ModelCard(
        name=f"random-{seed}",
        training_data="none",
        metrics={},
        architecture=architecture,
        image_height=64,
        image_width=32,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
        vocabulary=vocabulary,
    )
    return network, card


def make_model(directory: Path, seed: int = 0) -> ModelCard:
    """Writes one into `directory`; each seed gives another model and version."""
    return save_model(directory, *random_network(seed=seed))
