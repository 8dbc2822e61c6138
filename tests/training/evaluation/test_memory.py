"""Freed memory is kept, so that the next batch finds it."""

import subprocess
import sys


def test_freed_memory_is_used_again() -> None:
    """In a process of its own, as what malloc is told holds until a process ends."""
    program = """
import resource, torch
from training.evaluation.memory import keep_memory
keep_memory()
for _ in range(20):  # small blocks settle between the large ones
    torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(found.stdout) < 50_000  # of the 195,310 pages that they need
