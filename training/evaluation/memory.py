"""Freed memory that stays in the process: each batch needs as much as the last one gave back."""

import ctypes

# Of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the system.

    This holds for the whole process, until it ends. To get a batch's activations anew, page by
    page, takes as long as an evaluation's forward passes do; a training step gains nothing
    (docs/experiments/2026-11-cpu-parts.md). It works for the main thread only: the arenas of others
    give back what is so large. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
