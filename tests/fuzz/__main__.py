"""`make fuzz`: damaged inputs for each target in this folder, with limits; what breaks is kept.

Input number N of a target is always the same, so a finding is its number: `--first N --inputs 1`.
"""

import argparse
import importlib
import mmap
import os
import random
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

SECONDS = 10
MEMORY_BYTES = 1 << 30
# One process works off so many: what leaks shows, and what ends a process costs little.
AT_ONCE = 5000
ODD = [struct.pack(order, n) for order in (">I", "<I") for n in (0, 1, 0xFFFF, 1 << 31, 0xFFFFFFFF)]


def damaged(seeds: Sequence[bytes], number: int) -> bytes:
    """A seed with 1 to 8 places overwritten, cut, repeated or replaced by another seed's."""
    chance = random.Random(number)
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 8)):
        place, other = chance.randrange(len(data) + 1), chance.choice(seeds)
        length = chance.choice([1, 1, 2, 4, 16, 64])
        from_other = chance.randrange(len(other))
        data[place : place + length] = chance.choice(
            [
                bytes([chance.randrange(256)]),
                chance.choice(ODD),
                b"",
                data[place : place + length] * 2,
                other[from_other : from_other + length],
            ]
        )
    return bytes(data)


def fuzz(
    attempt: Callable[[bytes], None], seeds: Sequence[bytes], numbers: range
) -> dict[int, str]:
    """Tries each input in processes with limits; the numbers of those that broke one, and how."""
    found: dict[int, str] = {}
    with mmap.mmap(-1, 8) as at:  # which input a process was at when it ended
        first = numbers.start
        while first < numbers.stop:
            pid = os.fork()
            if not pid:
                _try_all(attempt, seeds, range(first, min(first + AT_ONCE, numbers.stop)), at)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            (number,) = struct.unpack("q", at[:])
            if status:
                found[number] = signal.Signals(-status).name if status < 0 else "exception"
            first = number + 1
    return found


def _try_all(
    attempt: Callable[[bytes], None], seeds: Sequence[bytes], numbers: range, at: mmap.mmap
) -> None:
    """Never returns."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries in C say of each input
    try:
        for number in numbers:
            at[:] = struct.pack("q", number)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            attempt(damaged(seeds, number))
    except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(1)
    os._exit(0)


def main() -> None:
    files = Path(__file__).parent.glob("[!_]*.py")
    targets = sorted(file.stem for file in files if not file.stem.startswith("test_"))
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(targets)}; all if none is named")
    parser.add_argument("--inputs", type=int, default=20_000, help="for each target")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    options = parser.parse_args()
    broken = False
    for name in options.targets or targets:
        target = importlib.import_module(f"tests.fuzz.{name}")
        found = fuzz(
            target.attempt, target.SEEDS, range(options.first, options.first + options.inputs)
        )
        print(f"{name}: {options.inputs:,} inputs, {len(found)} findings")
        for number, how in found.items():
            print(f"  {number}: {how}; python -m tests.fuzz {name} --first {number} --inputs 1")
        broken |= bool(found)
    sys.exit(broken)


if __name__ == "__main__":
    main()
