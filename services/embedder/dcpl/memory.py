"""The memory of this process: how much it has, and how much more it may take."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

_SIZES = Path("/proc/self/statm")


def address_space() -> int:
    """Bytes of address space in use."""
    return int(_SIZES.read_text().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def at_most(more_bytes: int) -> Iterator[None]:
    """Within it, what would take more raises MemoryError (PyTorch: RuntimeError) instead."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = address_space() + more_bytes
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
