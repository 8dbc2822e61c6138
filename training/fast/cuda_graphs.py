"""What makes training fast on a GPU, which otherwise waits for the processor's next command."""

import copy

import torch
from torch import Tensor, nn


def replay(module: nn.Module, inputs: Tensor, *, bfloat16: bool) -> None:
    """Record the passes of a module as CUDA graphs, which it replays from now on when it trains.

    A pass then is one command to the GPU instead of some hundreds. inputs: of the shape, type and
    memory format that all to come will have, on the GPU. Weights and state dict stay what they are.
    """
    before = copy.deepcopy(module.state_dict())
    with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16, cache_enabled=False):
        torch.cuda.make_graphed_callables(module.train(), (inputs,))
    # The recording keeps the nodes that gather gradients, on the stream that it was made on.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    module.load_state_dict(before)  # the recorded passes have moved the running statistics
