"""What makes training fast on a processor; but for rounding it learns the same."""

import ctypes
import logging

import torch
from torch import nn

from training.fast.batch_norm_relu6 import fuse_batch_norms
from training.fast.depthwise import replace_depthwise
from training.fast.kernels import CannotCompile, loops
from training.fast.length_bucketing import read_by_length

LOG = logging.getLogger(__name__)
# Of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def speed_up_on_cpu(network: nn.Module, *, bfloat16: bool) -> None:
    """Fuse batch norms, replace depthwise convolutions, read captions of like length together, and
    keep freed memory in the process.

    bfloat16: whether the network will run under autocast. Weights and state dict stay what they
    are. Where there is no C compiler, norms and convolutions are left alone and a warning says so.
    """
    keep_memory()
    read_by_length(network)
    try:
        loops(torch.bfloat16 if bfloat16 else torch.float32)
    except CannotCompile as error:
        LOG.warning("training will be slower, as nothing can be compiled here: %s", error)
        return
    fuse_batch_norms(network)
    replace_depthwise(network)


def keep_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the system.

    A batch's activations are as large as those of the last one; to get them anew, page by page,
    costs a tenth of a training step, and up to half of the time of an evaluation. It works for the
    main thread only: the arenas of others give back what is so large. Other C libraries are left
    alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
