"""Import of the reference implementation's checkpoints, so that its vectors are reproduced.

Its files are a checkpoint, {network, network_ema, epoch, W}, each network a state dict, and a
pickled vocabulary, {word: rank}. Neither can run code here: the first is read by PyTorch's
weights-only loader, the second by an unpickler that knows no names at all.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor

from passerby.limits import Limit
from services.embedder.dcpl.memory import at_most
from services.embedder.dcpl.model_directory import (
    WEIGHTS_BYTES,
    InvalidModel,
    ModelCard,
    read_file,
    save_model,
)
from services.embedder.dcpl.network import VOCABULARY, Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary

VOCABULARY_BYTES = Limit("pickled vocabulary", 16 << 20, "bytes", "the model is refused")
CHECKPOINT_BYTES = Limit("checkpoint to import", 8 << 30, "bytes", "the model is refused")
LIMITS = (CHECKPOINT_BYTES, VOCABULARY_BYTES)
# Beyond some times the file itself, to read a checkpoint.
READING_BYTES = 1 << 30

Variant = Literal["auto", "network_ema", "network"]

# What our names begin with, for each beginning of theirs; what follows is the same in both.
PREFIXES = {
    "image_model.model.": "image_tower.",  # MobileNetV1
    "image_model.": "image_tower.",  # ResNet, as in torchvision
    "bilstm.embed.": "caption_tower.embedding.",
    "bilstm.bilstm.0.": "caption_tower.first.",
    "bilstm.bilstm.1.": "caption_tower.second.",
    "conv_images.": "image_projection.",
    "conv_text.": "caption_projection.",
}


def import_reference(
    checkpoint: Path,
    vocabulary: Path,
    directory: Path,
    *,
    name: str,
    variant: Variant = "auto",
) -> ModelCard:
    """Write the checkpoint's network as a model directory; returns its card.

    variant: which of the file's networks; auto takes network_ema where there is one, as the
    reference does. Raises InvalidModel naming the file and the remedy.
    """
    words = read_vocabulary(vocabulary)
    content = _read_checkpoint(checkpoint)
    if variant == "auto":
        variant = "network_ema" if content.get("network_ema") else "network"
    theirs = _weights(content, variant, checkpoint)
    architecture = _architecture(theirs, words, checkpoint)
    with torch.device("meta"):  # takes no memory, whatever the checkpoint claims
        ours = Dcpl(architecture).state_dict()
    needed = sum(weight.numel() * 4 for weight in ours.values())
    if needed > WEIGHTS_BYTES.value:
        raise InvalidModel(f"{checkpoint}: {WEIGHTS_BYTES.exceeded(needed)}; is it a DCPL file?")
    network = Dcpl(architecture)
    network.load_state_dict(_convert(theirs, ours, checkpoint))
    epoch = content.get("epoch")
    card = ModelCard(
        name=name,
        training_data="unknown (imported)",
        metrics={},
        notes=f"Imported from {checkpoint.name} ({variant}, epoch {epoch}) of the DCPL reference "
        f"implementation, with the vocabulary {vocabulary.name}.",
        architecture=architecture,
        image_height=224,
        image_width=224,
        vocabulary=words,
    )
    return save_model(directory, network, card)


def read_vocabulary(path: Path) -> Vocabulary:
    """The pickled {word: rank}: ids are ranks, unknown words get the id behind the last."""
    content = read_file(path, VOCABULARY_BYTES)
    try:
        _check_opcodes(content)
        ranks = _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()
    except _UNPICKLING_ERRORS as error:
        raise InvalidModel(
            f"{path}: not a pickled dict of str to int ({error}); nothing in it was run; "
            f"pickle a plain dict of word to rank"
        ) from error
    if type(ranks) is not dict or not all(
        type(word) is str and type(rank) is int for word, rank in ranks.items()
    ):
        raise InvalidModel(
            f"{path}: is not a dict of str to int; pickle a plain dict of word to rank"
        )
    if len(ranks) >= VOCABULARY.value:
        raise InvalidModel(f"{path}: {VOCABULARY.exceeded(len(ranks) + 1)}; take fewer words")
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise InvalidModel(
            f"{path}: the ranks of its {len(ranks)} words are not 0 to {len(ranks) - 1}, each "
            f"once; take the vocabulary that the checkpoint was trained with"
        )
    return Vocabulary(
        words=tuple(sorted(ranks, key=ranks.__getitem__)),
        first=0,
        unknown=len(ranks),
        padding=0,
        lower=False,
    )


def _check_opcodes(pickled: bytes) -> None:
    """Raises UnpicklingError for whatever a dict of words and numbers does not need: even what
    runs nothing can take memory without end, or nest until Python itself breaks.
    """
    for opcode, argument, place in pickletools.genops(pickled):
        if not _WORDS_AND_NUMBERS.fullmatch(opcode.name):
            raise pickle.UnpicklingError(
                f"its {opcode.name} at byte {place} is no word or number, and could run code"
            )
        if opcode.name.endswith("PUT") and int(argument or 0) > len(pickled):
            raise pickle.UnpicklingError(f"it remembers thing {argument:,} of its few")


_WORDS_AND_NUMBERS = re.compile(
    r"PROTO|FRAME|STOP|MARK|MEMOIZE|(LONG_)?(BIN)?(PUT|GET)"
    r"|(EMPTY_)?(DICT|LIST)|SETITEMS?|APPENDS?"
    r"|UNICODE|STRING|(SHORT_)?BIN(UNICODE|STRING)|BINUNICODE8"
    r"|(BIN)?INT|BININT[12]|LONG[14]?|NEWTRUE|NEWFALSE"
)


class _PlainUnpickler(pickle.Unpickler):
    """Builds dict, list, tuple, str and numbers, which pickle has opcodes for; refuses names.

    All that can run code begins with find_class or persistent_load.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to an outside object {pid!r}")


# What the standard library's documentation says damaged pickles raise, besides UnpicklingError.
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    MemoryError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > CHECKPOINT_BYTES.value:
            raise InvalidModel(f"{path}: {CHECKPOINT_BYTES.exceeded(size)}; is it the right file?")
        with at_most(4 * size + READING_BYTES):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InvalidModel(f"{path}: {error.strerror}; name the checkpoint") from error
    except (*_UNPICKLING_ERRORS, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InvalidModel(
            f"{path}: damaged, or not a file of tensors only, and nothing else is read, since it "
            f"could run code ({reason}); copy it again, or where it was made save it again with "
            f"only the networks' state dicts"
        ) from error
    if not isinstance(content, dict):
        raise InvalidModel(
            f"{path}: holds a {type(content).__name__}; the reference's checkpoints are dicts "
            f"with 'network'"
        )
    return content


def _weights(content: Mapping[Any, Any], variant: Variant, checkpoint: Path) -> dict[str, Tensor]:
    """One network's state dict, without the prefix that training on several GPUs leaves."""
    weights = content.get(variant)
    if not isinstance(weights, Mapping) or not weights:
        held = ", ".join(map(str, content)) or "nothing"
        raise InvalidModel(
            f"{checkpoint}: no {variant!r} in it, but {held}; choose another variant or file"
        )
    for key, weight in weights.items():
        if not isinstance(key, str) or not isinstance(weight, Tensor):
            raise InvalidModel(
                f"{checkpoint}: {variant}: {key!r} is not a tensor; choose a file "
                f"that holds a network's state dict there"
            )
    return {key.removeprefix("module."): weight for key, weight in weights.items()}


def _architecture(
    theirs: Mapping[str, Tensor], words: Vocabulary, checkpoint: Path
) -> Architecture:
    """Read from the shapes of the weights."""

    def shape(key: str, axes: int) -> torch.Size:
        if key not in theirs:
            raise InvalidModel(f"{checkpoint}: {key} is missing; is it a DCPL checkpoint?")
        if theirs[key].ndim != axes:
            raise InvalidModel(
                f"{checkpoint}: {key} is {tuple(theirs[key].shape)} instead of {axes} axes; "
                f"is it a DCPL checkpoint?"
            )
        return theirs[key].shape

    shape("conv_images.weight", 4)
    rows, word_dimension = shape("bilstm.embed.weight", 2)
    if rows < len(words):
        raise InvalidModel(
            f"{checkpoint}: its word embedding has {rows} rows, but the vocabulary needs "
            f"{len(words)}, for its words and the unknown word; take the vocabulary that the "
            f"checkpoint was trained with"
        )
    return Architecture(
        image_tower=_image_tower(theirs, checkpoint),
        vocabulary_size=len(words),
        word_dimension=word_dimension,
        hidden=shape("bilstm.bilstm.0.weight_hh_l0", 2)[1],
        dimension=shape("conv_text.weight", 4)[0],
        recurrence="forward_twice",
    )


def _image_tower(theirs: Mapping[str, Tensor], checkpoint: Path) -> str:
    if "image_model.model.0.0.weight" in theirs:
        return "mobilenet_v1"
    blocks = {key.split(".")[2] for key in theirs if key.startswith("image_model.layer3.")}
    if len(blocks) == 6 and "image_model.layer1.0.conv3.weight" in theirs:
        return "resnet50"
    found = sorted(key for key in theirs if key.startswith("image_model."))
    raise InvalidModel(
        f"{checkpoint}: its image tower is neither MobileNetV1 nor ResNet-50, the ones that can be "
        f"imported; it begins with {', '.join(found[:3]) or 'nothing'}"
    )


def _convert(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], checkpoint: Path
) -> dict[str, Tensor]:
    """Their weights under our names and in our shapes."""
    converted = {}
    for key, weight in theirs.items():
        our_name = _our_name(key)
        if our_name is None:
            continue
        if our_name not in ours:
            raise InvalidModel(f"{checkpoint}: {key} is not known; is it a DCPL checkpoint?")
        wanted = ours[our_name].shape
        if key == "bilstm.embed.weight":
            weight = weight[: wanted[0]]  # the reference allots more rows than there are words
        elif key in ("conv_images.weight", "conv_text.weight"):
            weight = weight.flatten(1)  # a 1x1 convolution of one position is a matrix
        if weight.shape != wanted:
            raise InvalidModel(
                f"{checkpoint}: {key} is {tuple(weight.shape)} instead of {tuple(wanted)}"
            )
        converted[our_name] = weight
    for our_name, weight in ours.items():
        if our_name in converted:
            continue
        if not _MAY_BE_MISSING.search(our_name):
            raise InvalidModel(
                f"{checkpoint}: {our_name} is missing; is the file complete, and a DCPL checkpoint?"
            )
        converted[our_name] = torch.zeros(weight.shape, dtype=weight.dtype)
    return converted


# The reference's LSTMs have no biases, its projections need none, old files count no batches.
_MAY_BE_MISSING = re.compile(r"bias_[ih]h_l0$|_projection\.bias$|num_batches_tracked$")


def _our_name(key: str) -> str | None:
    """None for the ImageNet classifier that a ResNet may still carry: no vector passes it."""
    if key.startswith("image_model.fc."):
        return None
    for prefix, ours in PREFIXES.items():
        if key.startswith(prefix):
            return ours + key.removeprefix(prefix)
    return key
