"""`make bench`: every benchmark in this folder, one after the other, each ratio within one run."""

import importlib
import os
import platform
import sys
from pathlib import Path


def machine() -> str:
    """The machine in words, for every figure that is quoted."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next(line.split(": ")[1] for line in cpuinfo.splitlines() if "model name" in line)
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main(names: list[str]) -> None:
    found = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
    known = [name.removeprefix("bench_") for name in found]
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(unknown)}; choose from {', '.join(known)}")
    print(f"Machine: {machine()}")
    for name in found:
        if not names or name.removeprefix("bench_") in names:
            print(f"\n== {name.removeprefix('bench_')}", flush=True)
            importlib.import_module(f"tests.bench.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
