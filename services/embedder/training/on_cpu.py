"""What makes bfloat16 training fast on a processor; but for rounding it learns the same."""

import ctypes
import logging

import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.exc import InductorError

from services.embedder.training.captions_by_length import read_by_length
from services.embedder.training.fused_batch_norm import fuse_batch_norms
from services.embedder.training.strided_depthwise import replace_strided_depthwise

LOG = logging.getLogger(__name__)
# Of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def speed_up_on_cpu(network: nn.Module) -> None:
    """Fuse batch norms, replace strided depthwise convolutions, read captions of like length
    together, and keep freed memory in the process.

    Weights and state dict stay what they are. Where PyTorch cannot compile, for want of a C++
    compiler or of Python's headers, norms and convolutions are left alone and a warning says why.
    """
    keep_memory()
    read_by_length(network)
    try:
        _compiled(torch.zeros(2))
    except (BackendCompilerFailed, InductorError) as error:
        reason = str(error).splitlines()[0]
        LOG.warning("training will be slower, as PyTorch cannot compile here: %s", reason)
        return
    fuse_batch_norms(network)
    replace_strided_depthwise(network)


@torch.compile
def _compiled(values: Tensor) -> Tensor:
    return values + 1


def keep_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the system.

    A step's activations are as large as those of the last one; to get them anew, page by page,
    costs a tenth of the step. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
