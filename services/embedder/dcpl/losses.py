"""The paper's two losses, cross-modal projection matching (CMPM) and classification (CMPC), and a
contrastive one on the same projections.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-8
"""Of equation 4: keeps the logarithm of a non-match's true probability, 0, finite."""


def cmpm_loss(images: Tensor, captions: Tensor, identities: Tensor) -> Tensor:
    """Cross-modal projection matching (Zhang & Lu, ECCV 2018, eq. 1-5).

    images, captions: (batch, dimension) float, not normalised, row i of both of the person
    identities[i]: (batch,) int64. Returns a scalar: the KL divergence of the distribution
    that the projections give over the batch from the true one, mean over the batch, image to
    caption plus caption to image. Computed in float32 at least, under autocast too.

    Where implementations differ from the paper:
    - The true distribution divides a row of matches by its sum (eq. 2), here and in the authors'
      TensorFlow code. The common PyTorch implementation divides by the row's L2 norm: with m
      matches the row then sums to sqrt(m) instead of 1, and the loss can fall to -log(sqrt(m))
      each way: no divergence. The two agree while each person stands in a batch once.
    - The authors' code adds epsilon a second time, to p / (q + epsilon), to keep its logarithm
      finite. The log-softmax here is finite without, which leaves equation 4 as it is printed.
    """
    to_caption, to_image = _log_probabilities(images, captions)
    truth = _true_distribution(identities, to_caption.dtype)
    return _divergence(to_caption, truth) + _divergence(to_image, truth)


def contrastive_loss(images: Tensor, captions: Tensor, identities: Tensor) -> Tensor:
    """Cross entropy of CMPM's two distributions with the true one; not in the paper.

    InfoNCE (van den Oord et al., 2018, eq. 4) in both directions, each vector of the person a
    positive (Khosla et al., 2020, eq. 2), on CMPM's projections instead of cosines over a
    temperature. But for a constant it is CMPM's divergence with its arguments exchanged: CMPM
    hardly moves a match that has no probability yet, this loss moves it most.
    Takes and returns what cmpm_loss does.
    """
    to_caption, to_image = _log_probabilities(images, captions)
    truth = _true_distribution(identities, to_caption.dtype)
    return -((truth * to_caption).sum(dim=1) + (truth * to_image).sum(dim=1)).mean()


def _true_distribution(identities: Tensor, dtype: torch.dtype) -> Tensor:
    """Equation 2: (batch,) -> (batch, batch), each row spread evenly over the same person's."""
    matches = (identities[:, None] == identities[None, :]).to(dtype)
    return matches / matches.sum(dim=1, keepdim=True)


def _log_probabilities(images: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 1: log-softmax, over the batch, of each vector's projections onto the directions of
    the other modality's; (batch, batch) each, image to caption and caption to image.
    """
    with torch.autocast(images.device.type, enabled=False):
        images, captions = _precise(images), _precise(captions)
        to_caption = images @ functional.normalize(captions).T
        to_image = captions @ functional.normalize(images).T
        return functional.log_softmax(to_caption, dim=1), functional.log_softmax(to_image, dim=1)


def _divergence(log_probability: Tensor, truth: Tensor) -> Tensor:
    """Mean over the rows of KL(probability || truth); both (batch, batch)."""
    difference = log_probability - torch.log(truth + EPSILON)
    return (log_probability.exp() * difference).sum(dim=1).mean()


class CmpcLoss(nn.Module):
    """Cross-modal projection classification (Zhang & Lu, ECCV 2018, section 3.3).

    The norm-softmax over the training identities, of each image projected onto the direction of
    its caption and the other way round, so that what tells people apart is what both share.
    The class weights (columns of `weight`) are kept at length 1, so only directions separate the
    classes. The common implementations do the same; the authors' can smooth the labels on top,
    which the paper does not have, nor has this.
    """

    def __init__(self, dimension: int, identities: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dimension, identities))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, images: Tensor, captions: Tensor, identities: Tensor) -> Tensor:
        """images, captions: (batch, dimension) float, row i of both of one pair;
        identities: (batch,) int64 in [0, identities). Returns a scalar: cross entropy, mean over
        the batch, images plus captions. Computed in float32 at least, but for the product with the
        class weights: with many people that is most of the work, and autocast may shorten it.
        """
        with torch.autocast(images.device.type, enabled=False):
            images, captions = _precise(images), _precise(captions)
            projections = torch.cat([_project(images, captions), _project(captions, images)])
            lengths = _precise(self.weight).norm(dim=0).clamp_min(1e-12)
        products = projections @ self.weight  # (2 x batch, identities)
        with torch.autocast(images.device.type, enabled=False):
            # Dividing the logits is dividing the weights, which are many more with many people.
            logits = _precise(products) / lengths
            return 2 * functional.cross_entropy(logits, identities.repeat(2))


def _project(vectors: Tensor, onto: Tensor) -> Tensor:
    """Each row of `vectors` projected onto the direction of the same row of `onto`."""
    direction = functional.normalize(onto)
    return (vectors * direction).sum(dim=1, keepdim=True) * direction


def _precise(values: Tensor) -> Tensor:
    """float32, or float64 where that came in."""
    return values if values.dtype == torch.float64 else values.float()
