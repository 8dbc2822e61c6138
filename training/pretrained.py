"""ImageNet weights for an image tower, from a local file or from torchvision's own download."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from services.embedder.dcpl.network import Dcpl

TORCHVISION = "torchvision"
"""Instead of a file: let torchvision fetch its weights (needs a network)."""


class UnusableWeights(ValueError):
    """The file does not hold the weights of this image tower."""


def load_image_tower(network: Dcpl, source: str) -> None:
    """Fill the image tower from `source`: a file, or TORCHVISION.

    Files: torchvision's (a state dict), and the MobileNetV1 that the reference implementation
    starts from ({"state_dict": {"module.model.0.0.weight": ...}}). The ImageNet classifier in it
    is left out; anything else that is missing or of another shape raises UnusableWeights.
    """
    name = network.architecture.image_tower
    if source == TORCHVISION:
        if name == "mobilenet_v1":
            raise UnusableWeights("torchvision has no MobileNetV1; name a file with its weights")
        weights = models.get_model_weights(name).DEFAULT.get_state_dict(progress=True)
    else:
        weights = _read(Path(source))
    _fill(network.image_tower, weights, f"{source}: does not fit {name}")


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UnusableWeights(f"{path}: no such file") from error
    except Exception as error:  # torch raises half a dozen unrelated types for a bad file
        raise UnusableWeights(
            f"{path}: not a file of PyTorch weights ({type(error).__name__}); nothing in it was run"
        ) from error
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping):
        raise UnusableWeights(f"{path}: holds no state dict")
    return {
        str(key).removeprefix("module.").removeprefix("model."): weight
        for key, weight in weights.items()
        if isinstance(weight, Tensor)
    }


def _fill(tower: nn.Module, weights: Mapping[str, Tensor], complaint: str) -> None:
    wanted = tower.state_dict()
    unfit = [
        key
        for key, tensor in wanted.items()
        if not key.endswith("num_batches_tracked")
        and (key not in weights or weights[key].shape != tensor.shape)
    ]
    if unfit:
        raise UnusableWeights(
            f"{complaint}: {len(unfit)} of {len(wanted)} tensors are missing or of another shape, "
            f"such as {unfit[0]}"
        )
    tower.load_state_dict(
        {key: weights.get(key, tensor) for key, tensor in wanted.items()}, strict=True
    )
