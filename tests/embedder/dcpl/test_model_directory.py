"""A model directory gives back what was saved, or says what is wrong with it."""

import hashlib
import json
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.embedder.dcpl.memory import at_most
from services.embedder.dcpl.model_directory import (
    CARD,
    WEIGHTS,
    InvalidModel,
    ModelCard,
    load_card,
    load_model,
    save_model,
)
from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary

VOCABULARY = Vocabulary.build(["a man in red", "a woman in blue"])
CARD_OF_SMALL = ModelCard(
    name="small",
    training_data="nothing",
    metrics={"rank_1": 12.5, "gallery": {"images": 10}},
    architecture=Architecture("mobilenet_v1", len(VOCABULARY), 6, 5, 7),
    image_height=64,
    image_width=32,
    vocabulary=VOCABULARY,
)


@pytest.fixture(scope="module")
def network() -> Dcpl:
    torch.manual_seed(1)
    network = Dcpl(CARD_OF_SMALL.architecture)
    network.encode_images(torch.randn(4, 3, 64, 32))  # statistics other than 0 and 1
    return network.eval()


@pytest.fixture
def directory(network: Dcpl, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", network, CARD_OF_SMALL)
    return tmp_path / "model"


def vectors(network: Dcpl) -> torch.Tensor:
    words = torch.tensor([VOCABULARY.encode("a man in red")])
    images = torch.linspace(-1, 1, 3 * 64 * 32).reshape(1, 3, 64, 32)
    with torch.inference_mode():
        return torch.cat(
            [network.encode_images(images), network.encode_captions(words, torch.tensor([4]))]
        )


def test_a_saved_model_is_loaded_as_it_was(network: Dcpl, directory: Path) -> None:
    loaded, card = load_model(directory)
    assert replace(card, weights_sha256="") == CARD_OF_SMALL
    assert torch.equal(vectors(loaded), vectors(network))
    assert not loaded.training
    assert {path.name for path in directory.iterdir()} == {WEIGHTS, CARD}, "nothing partial stays"


def test_float16_halves_the_file_and_keeps_the_vectors(
    network: Dcpl, directory: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "half", network, CARD_OF_SMALL, precision="float16")
    loaded, _ = load_model(tmp_path / "half")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    similarity = torch.cosine_similarity(vectors(loaded), vectors(network))
    assert similarity.min() > 0.9999
    sizes = [(path / WEIGHTS).stat().st_size for path in (tmp_path / "half", directory)]
    assert sizes[0] < 0.52 * sizes[1]


def test_statistics_beyond_the_range_of_float16_are_kept(tmp_path: Path) -> None:
    network = Dcpl(CARD_OF_SMALL.architecture)
    statistics = network.get_buffer("image_tower.0.1.running_var")
    statistics[:2] = torch.tensor([1e-9, 1e6])
    save_model(tmp_path, network, CARD_OF_SMALL, precision="float16")
    loaded, _ = load_model(tmp_path)
    assert torch.equal(loaded.get_buffer("image_tower.0.1.running_var"), statistics)


def test_the_version_names_the_weights_and_nothing_else(
    network: Dcpl, directory: Path, tmp_path: Path
) -> None:
    digest = hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    version = load_card(directory).version
    assert version == digest[:12]
    renamed = replace(CARD_OF_SMALL, name="other", metrics={})
    assert save_model(tmp_path / "again", network, renamed).version == version
    other = Dcpl(CARD_OF_SMALL.architecture)
    assert save_model(tmp_path / "other", other, CARD_OF_SMALL).version != version


def test_a_card_of_another_network_is_not_saved(network: Dcpl, tmp_path: Path) -> None:
    wider = replace(CARD_OF_SMALL.architecture, hidden=6)
    with pytest.raises(InvalidModel, match="the card describes another network"):
        save_model(tmp_path, network, replace(CARD_OF_SMALL, architecture=wider))
    longer = Vocabulary.build(["a man in red and black shoes"])
    with pytest.raises(InvalidModel, match="needs 9 ids, but the network's embedding has 8 rows"):
        save_model(tmp_path, network, replace(CARD_OF_SMALL, vocabulary=longer))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_leave_the_earlier_model(directory: Path) -> None:
    before = load_card(directory).version
    broken = Dcpl(CARD_OF_SMALL.architecture)
    broken.image_projection.bias.data[3] = torch.nan
    with pytest.raises(InvalidModel, match=r"image_projection\.bias: not finite as float32"):
        save_model(directory, broken, CARD_OF_SMALL)
    broken.image_projection.bias.data[3] = 1e5
    with pytest.raises(InvalidModel, match="float16 is too narrow"):
        save_model(directory, broken, CARD_OF_SMALL, precision="float16")
    assert load_model(directory)[1].version == before


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write more, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_earlier_model(directory: Path) -> None:
    before = load_card(directory).version
    with pytest.raises(OSError, match="File too large"), files_no_larger_than(1_000_000):
        save_model(directory, Dcpl(CARD_OF_SMALL.architecture), CARD_OF_SMALL)
    assert load_model(directory)[1].version == before
    assert {path.name for path in directory.iterdir()} == {WEIGHTS, CARD}


def test_damaged_weights_are_refused(directory: Path) -> None:
    content = bytearray((directory / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / WEIGHTS).write_bytes(content)
    with pytest.raises(InvalidModel, match=rf"{WEIGHTS}: is not the file that {CARD} describes"):
        load_model(directory)


@pytest.mark.parametrize("missing", [WEIGHTS, CARD])
def test_a_missing_file_is_named(directory: Path, missing: str) -> None:
    (directory / missing).unlink()
    with pytest.raises(InvalidModel, match=f"{missing}: No such file or directory; a model dir"):
        load_model(directory)


def describe(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit the card by hand, and have it describe whatever weights lie beside it."""
    card = json.loads((directory / CARD).read_text())
    card["weights_sha256"] = hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    change(card)
    (directory / CARD).write_text(json.dumps(card))


def test_a_pickle_in_place_of_weights_is_refused(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes(pickle.dumps({"weight": 1}))
    describe(directory, lambda card: None)
    with pytest.raises(InvalidModel, match="not a safetensors file"):
        load_model(directory)


def test_weights_of_another_network_are_refused_with_what_differs(directory: Path) -> None:
    weights = load_file(directory / WEIGHTS)
    weights["image_projection.bias"] = torch.zeros(3)
    weights["more"] = weights.pop("caption_projection.bias")
    save_file(weights, directory / WEIGHTS)
    describe(directory, lambda card: None)
    with pytest.raises(InvalidModel) as refusal:
        load_model(directory)
    assert "1 missing (caption_projection.bias)" in str(refusal.value)
    assert "1 not known (more)" in str(refusal.value)
    assert "1 of another shape (image_projection.bias is (3,) instead of (7,))" in str(
        refusal.value
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.pop("name"), "name: "),
        (lambda card: card.update(name=3), "name: Input should be a valid string"),
        (lambda card: card.update(image_height=0), "image_height: .*greater than 0"),
        (lambda card: card.update(image_width="64"), "image_width: .*valid integer"),
        (lambda card: card.update(std=[0.5, 0, 0.5]), "std.1: .*greater than 0"),
        (lambda card: card.update(mean=[0.5, 0.5]), "mean.2: "),
        (lambda card: card.update(colour="red"), "colour: "),
        (lambda card: card["architecture"].update(hidden="5"), "architecture.hidden: "),
        (lambda card: card["architecture"].update(hidden=-5), "architecture: .*hidden=-5"),
        (
            lambda card: card["architecture"].update(dimension=2_000_000_000),
            "2,000,000,000 numbers are more than the limit of 65,536",
        ),
        (
            lambda card: card["architecture"].update(vocabulary_size=10**30),
            "more than the limit of 500,000",
        ),
        (lambda card: card["architecture"].update(image_tower="vgg"), "image_tower='vgg': choose"),
        (lambda card: card["architecture"].update(recurrence="none"), "architecture.recurrence: "),
        (lambda card: card["vocabulary"]["words"].append("extra"), "needs 9 ids, .* has 8 rows"),
        (lambda card: card["vocabulary"]["words"].pop(), "needs 7 ids, .* has 8 rows"),
        (lambda card: card["vocabulary"]["words"].append("man"), "'man' is listed more than"),
    ],
)
def test_a_wrong_card_is_refused_with_the_field(
    directory: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    describe(directory, change)
    with pytest.raises(InvalidModel, match=rf"{CARD}: .*{message}"):
        load_model(directory)


def test_a_card_that_demands_a_vast_network_takes_no_memory(directory: Path) -> None:
    """This one would take 64 GiB."""
    describe(directory, lambda card: card["architecture"].update(hidden=65_536))
    with at_most(256 << 20), pytest.raises(InvalidModel, match="of another shape"):
        load_model(directory)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_file_beyond_the_limit_is_not_read(directory: Path, name: str) -> None:
    os.truncate(directory / name, 5 << 30)  # of which the disk holds nothing
    with pytest.raises(InvalidModel, match=f"{name}: .* bytes are more than the limit of"):
        load_model(directory)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_file_that_is_not_a_card_is_refused(directory: Path, content: str) -> None:
    (directory / CARD).write_text(content)
    with pytest.raises(InvalidModel, match=f"{CARD}: content: "):
        load_card(directory)
