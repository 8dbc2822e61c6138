"""A trained model on disk: weights.safetensors, and model.json, the card that explains them."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from passerby.limits import Limit
from services.embedder.dcpl.network import SIDE, VOCABULARY, Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary

WEIGHTS = "weights.safetensors"
CARD = "model.json"

_REFUSED = "the model is refused"
CARD_BYTES = Limit(f"{CARD} of a model", 16 << 20, "bytes", _REFUSED)
WEIGHTS_BYTES = Limit(f"{WEIGHTS} of a model", 4 << 30, "bytes", _REFUSED)
LIMITS = (CARD_BYTES, WEIGHTS_BYTES, VOCABULARY, SIDE)

ImageSide = Annotated[int, Field(gt=0, le=4096)]
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Precision = Literal["float32", "float16"]


class InvalidModel(Exception):
    """A model directory, or a file to be imported, is not what it should be; says what to do."""


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What must be known to use the weights, and what should be known before one does."""

    name: str
    training_data: str
    """What it was trained on, in words."""
    metrics: dict[str, Any]
    """What it reaches, and on what."""
    licence: str = ""
    notes: str = ""
    architecture: Architecture
    image_height: ImageSide
    image_width: ImageSide
    mean: tuple[Mean, Mean, Mean] = (0.5, 0.5, 0.5)
    """(value / 255 - mean) / std makes an RGB image's values the network's; this one, [-1, 1]."""
    std: tuple[Deviation, Deviation, Deviation] = (0.5, 0.5, 0.5)
    weights_sha256: str = ""
    """Filled in by save_model, as hex digits."""
    vocabulary: Vocabulary

    @property
    def version(self) -> str:
        """What the model is called in a gallery: 12 hex digits of its weights' digest."""
        return self.weights_sha256[:12]


_CARD = TypeAdapter(ModelCard)


def save_model(
    directory: Path, network: Dcpl, card: ModelCard, *, precision: Precision = "float32"
) -> ModelCard:
    """Write the network and its card; returns the card as written.

    float16 halves the file; normalisation statistics stay float32, for their range. A model that
    stood there is replaced by renaming finished files over it, so no reader sees half a file.
    Raises InvalidModel if card and network do not fit together, and OSError (a full disk) with
    the earlier model untouched.
    """
    if network.architecture != card.architecture:
        raise InvalidModel(f"{directory}: the card describes another network than it is saved with")
    _check_vocabulary(card, directory)
    weights = save({name: _stored(name, w, precision) for name, w in network.state_dict().items()})
    card = replace(card, weights_sha256=hashlib.sha256(weights).hexdigest())
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleaning:
        partial_weights = cleaning.enter_context(_partial(directory / WEIGHTS, weights))
        partial_card = cleaning.enter_context(_partial(directory / CARD, _to_json(card)))
        partial_weights.replace(directory / WEIGHTS)
        partial_card.replace(directory / CARD)
    return card


def load_model(directory: Path) -> tuple[Dcpl, ModelCard]:
    """The network in eval mode, float32, on the CPU, and its card.

    Raises InvalidModel, naming the file and the remedy, if anything is missing, damaged or does
    not fit: the digest, every key and every shape are checked.
    """
    card = load_card(directory)
    path = directory / WEIGHTS
    content = read_file(path, WEIGHTS_BYTES)
    if hashlib.sha256(content).hexdigest() != card.weights_sha256:
        raise InvalidModel(
            f"{path}: is not the file that {CARD} describes (its SHA-256 differs), so it is "
            f"damaged or from another model; restore both files from the same copy"
        )
    try:
        weights = load(content)
    except SafetensorError as error:
        raise InvalidModel(
            f"{path}: not a safetensors file ({error}); save or import the model again"
        ) from error
    with torch.device("meta"):  # takes no memory, whatever the card demands
        wanted = Dcpl(card.architecture).state_dict()
    problems = _differences(weights, wanted)
    if problems:
        raise InvalidModel(
            f"{path}: does not fit the architecture in {CARD}: {problems}; "
            f"restore both files from the same copy"
        )
    network = Dcpl(card.architecture)
    network.load_state_dict(weights)  # copies into float32
    return network.eval(), card


def load_card(directory: Path) -> ModelCard:
    """The card alone. Raises InvalidModel naming the file and the field."""
    path = directory / CARD
    try:
        card = _CARD.validate_json(read_file(path, CARD_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        raise InvalidModel(
            f"{path}: {field}: {first['msg']}; correct it, or save or import the model again"
        ) from error
    _check_vocabulary(card, directory)
    return card


def _check_vocabulary(card: ModelCard, directory: Path) -> None:
    rows, needed = card.architecture.vocabulary_size, len(card.vocabulary)
    if rows != needed:
        raise InvalidModel(
            f"{directory / CARD}: the vocabulary needs {needed} ids, but the network's embedding "
            f"has {rows} rows (architecture.vocabulary_size); take the vocabulary of its training"
        )


def _differences(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What keeps weights from being loaded, at most three of each kind; empty if nothing does."""
    shapes = [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted.keys() & given.keys()
        if given[name].shape != wanted[name].shape
    ]
    kinds = {
        "missing": sorted(wanted.keys() - given.keys()),
        "not known": sorted(given.keys() - wanted.keys()),
        "of another shape": sorted(shapes),
    }
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in kinds.items()
        if names
    )


def _stored(name: str, weight: Tensor, precision: Precision) -> Tensor:
    """A tensor as it goes to disk; raises InvalidModel for one that is not finite."""
    weight = weight.detach().cpu().contiguous()
    if not weight.is_floating_point():
        return weight
    keeps_range = name.endswith(("running_mean", "running_var"))
    weight = weight.to(torch.float32 if keeps_range else getattr(torch, precision))
    if not weight.isfinite().all():
        raise InvalidModel(
            f"{name}: not finite as {precision}; the training diverged, or float16 is too narrow"
        )
    return weight


def _to_json(card: ModelCard) -> bytes:
    return (json.dumps(_CARD.dump_python(card, mode="json"), indent=1) + "\n").encode()


@contextmanager
def _partial(path: Path, content: bytes) -> Iterator[Path]:
    """A finished file beside `path`, certainly on the disk; gone at the end unless renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def read_file(path: Path, limit: Limit) -> bytes:
    """Raises InvalidModel, also for a file that is larger than the limit."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit.value:
                raise InvalidModel(f"{path}: {limit.exceeded(size)}; is it the right file?")
            return file.read()
    except OSError as error:
        raise InvalidModel(
            f"{path}: {error.strerror}; a model directory holds {WEIGHTS} and {CARD}"
        ) from error
