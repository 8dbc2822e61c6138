"""From pixels to what the network sees: random changes by torchvision's transforms, and scaling."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from training.recipe import Augmentation


def normalise(images: Tensor) -> Tensor:
    """(batch, height, width, 3) uint8 -> (batch, 3, height, width) float32 in [-1, 1].

    The result is channels-last in memory, as the input is.
    """
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def augment(images: Tensor, wanted: Augmentation, seed: int) -> Tensor:
    """images: (batch, height, width, 3) uint8 -> the same shape and type, each with its own draw.

    The transforms draw from PyTorch's global generator; it is left as it was.
    """
    change = _transforms(wanted, *images.shape[1:3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = [change(image) for image in images.permute(0, 3, 1, 2)]
    return torch.stack(changed).permute(0, 2, 3, 1).contiguous()


def _transforms(wanted: Augmentation, height: int, width: int) -> v2.Transform:
    steps: list[v2.Transform] = [v2.Identity()]
    if wanted.flip:
        steps.append(v2.RandomHorizontalFlip())
    if wanted.smallest_crop < 1:
        shape = width / height
        steps.append(
            v2.RandomResizedCrop(
                (height, width), (wanted.smallest_crop, 1), (0.9 * shape, 1.1 * shape)
            )
        )
    if wanted.brightness or wanted.contrast or wanted.saturation:
        steps.append(v2.ColorJitter(wanted.brightness, wanted.contrast, wanted.saturation))
    if wanted.erase:
        # Mid-grey is 0 to the network: nothing is to be seen there.
        steps.append(v2.RandomErasing(wanted.erase, (0.05, 0.2), value=[127.0]))
    return v2.Compose(steps)
