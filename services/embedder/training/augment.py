"""Image augmentation of a whole batch at once, each image with its own draw.

torchvision's v2 transforms draw once a batch or work image by image; on two cores the latter
costs as much as a tenth of the training step, this a hundredth. What is drawn comes from a
generator on the CPU, so that a run is the same on any device.
"""

import torch
from torch import Tensor
from torch.nn import functional

from services.embedder.training.recipe import Augmentation


def normalise(images: Tensor) -> Tensor:
    """(batch, height, width, 3) uint8 -> (batch, 3, height, width) float32 in [-1, 1].

    The result is channels-last in memory, as the input is.
    """
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def augment(images: Tensor, wanted: Augmentation, generator: torch.Generator) -> Tensor:
    """images: (batch, 3, height, width) float in [-1, 1] -> the same shape and range."""
    images = _move(images, wanted, generator)
    images = _recolour(images, wanted, generator)
    return _erase(images, wanted.erase, generator)


def _around(
    centre: float, reach: float, count: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """(count,) uniform in centre - reach to centre + reach."""
    return (centre + reach * (2 * torch.rand(count, generator=generator) - 1)).to(device)


def _move(images: Tensor, wanted: Augmentation, generator: torch.Generator) -> Tensor:
    """Flip, zoom and shift in one bilinear sampling; what comes into view repeats the border."""
    count, device = len(images), images.device
    zoom = _around(1, wanted.zoom, count, generator, device)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0).to(device)
    placement = torch.zeros(count, 2, 3, device=device)
    placement[:, 0, 0] = zoom * mirror if wanted.flip else zoom
    placement[:, 1, 1] = zoom
    # grid_sample's axes run from -1 to 1, so a share of the size is twice that there.
    placement[:, 0, 2] = _around(0, 2 * wanted.shift, count, generator, device)
    placement[:, 1, 2] = _around(0, 2 * wanted.shift, count, generator, device)
    grid = functional.affine_grid(placement, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _recolour(images: Tensor, wanted: Augmentation, generator: torch.Generator) -> Tensor:
    """Brightness, contrast (about the image's mean) and saturation."""
    count, device = len(images), images.device
    contrast = _around(1, wanted.contrast, count, generator, device)[:, None, None, None]
    brightness = _around(0, wanted.brightness, count, generator, device)[:, None, None, None]
    saturation = _around(1, wanted.saturation, count, generator, device)[:, None, None, None]
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    return (mean + (images - mean) * contrast + brightness).clamp_(-1, 1)


def _erase(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Paint a rectangle of one random grey over some images, as a pole or passer-by would."""
    count, _, height, width = images.shape
    area = 0.05 + 0.15 * torch.rand(count, generator=generator)
    stretch = torch.exp(torch.rand(count, generator=generator) * 2 - 1)
    tall, wide = (area * stretch).sqrt(), (area / stretch).sqrt()
    top = torch.rand(count, generator=generator) * (1 - tall)
    left = torch.rand(count, generator=generator) * (1 - wide)
    chosen = torch.rand(count, generator=generator) < chance
    grey = 2 * torch.rand(count, generator=generator) - 1
    y = (torch.arange(height) / height)[None, :, None]
    x = (torch.arange(width) / width)[None, None, :]
    inside = (y >= top[:, None, None]) & (y < (top + tall)[:, None, None])
    inside = inside & (x >= left[:, None, None]) & (x < (left + wide)[:, None, None])
    inside = (inside & chosen[:, None, None])[:, None].to(images.device)
    return torch.where(inside, grey[:, None, None, None].to(images.device), images)
