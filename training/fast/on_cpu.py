"""What makes training fast on a processor; but for rounding it learns the same."""

import logging

import torch
from torch import nn

from training.fast.batch_norm_relu6 import fuse_batch_norms
from training.fast.compiler import CannotCompile
from training.fast.depthwise import replace_depthwise
from training.fast.kernels import kernels_for

LOG = logging.getLogger(__name__)


def speed_up_on_cpu(network: nn.Module, *, bfloat16: bool) -> None:
    """Replace modules of `network` by faster ones.

    bfloat16: whether the network will run under autocast. Weights and state dict stay what they
    are. Where there is no C compiler, all modules are left alone and a warning says so.
    """
    try:
        kernels_for(torch.bfloat16 if bfloat16 else torch.float32)
    except CannotCompile as error:
        LOG.warning("training will be slower, as nothing can be compiled here: %s", error)
        return
    fuse_batch_norms(network)
    replace_depthwise(network)
