"""The floating-point type that a network computes in on a device."""

import torch

# oneDNN's bfloat16 convolutions for Intel's AMX, as of PyTorch 2.14, give arbitrary numbers where a
# stride leaves a single column. Towers halve the width five times.
LEAST_WIDTH_FOR_AMX = 64


def choose_precision(wanted: str, device: torch.device, image_width: int) -> torch.dtype:
    """auto, float32 or bfloat16 -> the type to compute in, for images of that width in pixels.

    auto is bfloat16 where the hardware multiplies in it (elsewhere it is emulated and slow). What
    is wrong in bfloat16 is computed in float32, whatever is wanted.
    """
    narrow = image_width < LEAST_WIDTH_FOR_AMX
    if narrow and device.type == "cpu" and torch.cpu._is_amx_tile_supported():  # noqa: SLF001 - as below
        return torch.float32
    if wanted != "auto":
        return torch.float32 if wanted == "float32" else torch.bfloat16
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - torch 2.11 has no other
    return torch.bfloat16 if native else torch.float32
