"""What training repeats: a batch in, the losses out; one module, so that DDP can wrap it."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from services.embedder.dcpl.losses import CmpcLoss, cmpm_loss, contrastive_loss
from services.embedder.dcpl.network import Dcpl


class Objective(nn.Module):
    """Network and losses. Under torchrun the losses see the vectors of all processes."""

    def __init__(
        self,
        network: Dcpl,
        identities: int,
        *,
        cmpm_weight: float,
        cmpc_weight: float,
        contrastive_weight: float,
    ) -> None:
        super().__init__()
        self.network = network
        self.weights = {
            "cmpm": cmpm_weight,
            "cmpc": cmpc_weight,
            "contrastive": contrastive_weight,
        }
        self.cmpc = CmpcLoss(network.architecture.dimension, identities) if cmpc_weight else None

    def forward(
        self, images: Tensor, words: Tensor, lengths: Tensor, identities: Tensor
    ) -> dict[str, Tensor]:
        """images: (images, 3, height, width), words: (captions, longest), lengths: (captions,),
        identities: (images,); captions are a multiple of the images, those of one adjoin.

        Returns the scalars "loss" (weighted sum) and each loss that takes part.
        """
        captions_per_image = len(words) // len(images)
        image_vectors = self.network.encode_images(images).repeat_interleave(captions_per_image, 0)
        caption_vectors = self.network.encode_captions(words, lengths)
        labels = identities.repeat_interleave(captions_per_image)
        if torch.distributed.is_initialized():
            image_vectors, caption_vectors = gather(image_vectors), gather(caption_vectors)
            labels = gather(labels)
        losses = {}
        if self.weights["cmpm"]:
            losses["cmpm"] = cmpm_loss(image_vectors, caption_vectors, labels)
        if self.cmpc is not None:
            losses["cmpc"] = self.cmpc(image_vectors, caption_vectors, labels)
        if self.weights["contrastive"]:
            losses["contrastive"] = contrastive_loss(image_vectors, caption_vectors, labels)
        total = sum((self.weights[name] * loss for name, loss in losses.items()), torch.zeros(()))
        return {"loss": total, **losses}


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, (processes x rows, ...), with gradients to each process's own.

    Backwards it adds up what every process asks of a row; DDP then divides by the number of
    processes. As each computes the same whole loss, the result is that loss's gradient.
    """
    return torch.cat(all_gather(rows))  # type: ignore[no-untyped-call]
