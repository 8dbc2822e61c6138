"""What each part of training/fast gains on a processor: `python -m tests.bench.fast_parts`.

Steps of the recommended recipe at its own size: with all parts, without one of them, without any,
and with PyTorch's compiler instead. Each is a process of its own, and they take turns step by step,
so that whatever else the machine does meets them all alike.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from services.embedder.dcpl.network import Dcpl
from tests.bench.bench_training import IDENTITIES, noise
from training.data.batches import Batch, batches
from training.distributed import DistributedContext
from training.fast import on_cpu
from training.learner import Learner
from training.recipe import RECOMMENDED

CPU = DistributedContext(torch.device("cpu"))
ALL = "all parts"
PLAIN, COMPILED = "plain", "plain, image tower by torch.compile"
PARTS = {
    "batch norm and ReLU6": "fuse_batch_norms",
    "depthwise convolutions": "replace_depthwise",
}
VARIANTS = (ALL, PLAIN, COMPILED, *(f"without {part}" for part in PARTS))
WARM_UP, TURNS = 3, 15


def endless() -> Iterator[Batch]:
    data, epoch = noise(RECOMMENDED), 0
    while True:
        yield from batches(data, RECOMMENDED, epoch)
        epoch += 1


def take_turns(variant: str) -> None:
    """In a process of its own: a step for each line that comes in, and its times for it."""
    for part, function in PARTS.items():
        if variant == f"without {part}":
            setattr(on_cpu, function, lambda *_: None)
    recipe = replace(RECOMMENDED, fast=variant not in (PLAIN, COMPILED))
    learner = Learner(Dcpl(recipe.architecture), recipe, IDENTITIES, CPU)
    if variant == COMPILED:
        learner.objective.network.image_tower.compile()
    given = endless()
    for _ in range(WARM_UP):
        learner.step(next(given), 1)
    print("ready", flush=True)
    for _ in sys.stdin:
        started, computed = time.monotonic(), time.process_time()
        learner.step(next(given), 1)
        print(time.monotonic() - started, time.process_time() - computed, flush=True)


class Contestant:
    """A variant's process; `seconds` and `cpu_seconds` of its steps."""

    def __init__(self, variant: str) -> None:
        command = [sys.executable, "-m", "tests.bench.fast_parts", variant]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started = time.monotonic()
        self._answer()
        self.start = time.monotonic() - started
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def step(self) -> None:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        seconds, computed = map(float, self._answer().split())
        self.seconds.append(seconds)
        self.cpu_seconds.append(computed)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with {self._process.wait()}")
        return line

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    contestants = {variant: Contestant(variant) for variant in VARIANTS}
    for _ in range(TURNS):
        for contestant in contestants.values():
            contestant.step()
    best = contestants[ALL]
    for variant, contestant in contestants.items():
        contestant.close()
        print(
            f"{variant:<36} {ratio(contestant.seconds, best.seconds):5.2f} x the time, "
            f"{ratio(contestant.cpu_seconds, best.cpu_seconds):5.2f} x the processor time; "
            f"{statistics.median(contestant.seconds):.3f} s a step, "
            f"{contestant.start:.0f} s to start"
        )


def ratio(found: list[float], reference: list[float]) -> float:
    """The median over the turns."""
    return statistics.median(a / b for a, b in zip(found, reference, strict=True))


if __name__ == "__main__":
    take_turns(sys.argv[1]) if sys.argv[1:] else main()
