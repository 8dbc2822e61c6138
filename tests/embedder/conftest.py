"""A tiny model with random weights, and the embedder serving it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from services.embedder.dcpl.model_directory import load_model
from tests.support.embedder import Bare, Serving, serving_from
from tests.support.models import make_model


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    make_model(directory)
    return directory


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that share a forward pass are slow beside whatever else runs here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def bare(model_directory: Path) -> Bare:
    return Bare(*load_model(model_directory))


@pytest.fixture
def serving(model_directory: Path) -> Serving:
    return serving_from(model_directory)
