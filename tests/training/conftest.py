"""A few drawn people and a recipe small enough to train on them in a second."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.embedder.dcpl.network import Architecture
from training.data.datasets import Dataset, read_dataset
from training.distributed import DistributedContext
from training.recipe import RECOMMENDED, Recipe
from training.synthetic.dataset import generate

CPU = DistributedContext(torch.device("cpu"))
CUDA = DistributedContext(torch.device("cuda"))
TINY = replace(
    RECOMMENDED,
    architecture=Architecture(word_dimension=8, hidden=8, dimension=16),
    image_height=32,
    image_width=32,
    epochs=2,
    batch_size=16,
    captions_per_image=2,
    minimum_word_count=1,
    patience=0,
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second thread and lose a lot to a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 images of 20 people in CUHK-PEDES's layout; 60 of them (15 people) are for training."""
    folder = tmp_path_factory.mktemp("drawn")
    generate(folder, images=80, seed=5, workers=1)
    return folder


@pytest.fixture(scope="session")
def dataset(drawn: Path) -> Dataset:
    return read_dataset(drawn)


@pytest.fixture
def tiny() -> Recipe:
    return TINY


@pytest.fixture
def cpu() -> DistributedContext:
    return CPU


@pytest.fixture(params=[CPU, pytest.param(CUDA, marks=pytest.mark.cuda)], ids=["cpu", "cuda"])
def context(request: pytest.FixtureRequest) -> DistributedContext:
    found: DistributedContext = request.param
    return found
