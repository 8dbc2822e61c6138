"""The kernels are compiled once; a cache that is shared, closed or damaged harms nobody."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from training.fast.compiler import CannotCompile, compiled

COMPUTE = """
import ctypes
from training.fast.compiler import compiled
images = (ctypes.c_float * 6)(1, 2, 3, 4, 5, 6)  # three pixels of two channels
totals = (ctypes.c_double * 4)()
compiled().sums(images, ctypes.c_long(3), ctypes.c_long(2), ctypes.c_long(1), totals)
print(*totals)
"""
SUMS = "9.0 12.0 35.0 56.0"
"""1 + 3 + 5, 2 + 4 + 6, and of their squares."""
COMPILER = """#!/bin/sh
case " $* " in *" -o "*) echo compiled >> "$COMPILATIONS"; eval "$THEN";; esac
exec cc "$@"
"""


class Runner:
    """Starts processes that need the kernels, with a cache and a counting compiler of their own."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.compilations = folder / "cache", folder / "compilations"
        self.compiler = folder / "counting-cc"
        self.compiler.write_text(COMPILER)
        self.compiler.chmod(0o755)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        ours = {
            "CC": str(self.compiler),
            "COMPILATIONS": str(self.compilations),
            "XDG_CACHE_HOME": str(self.cache),
        }
        return subprocess.Popen(
            [sys.executable, "-c", COMPUTE],
            env=os.environ | ours | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **environment: str) -> str:
        return self.finish(self.start(**environment))

    def finish(self, process: subprocess.Popen[str]) -> str:
        """What the process says beside the right sums."""
        output, errors = process.communicate(timeout=120)
        assert output.strip() == SUMS, errors
        return errors

    @property
    def compiled(self) -> int:
        return len(self.compilations.read_text().splitlines())

    @property
    def libraries(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_the_second_process_does_not_compile(runner: Runner) -> None:
    assert runner.run() == ""
    assert runner.run(THEN="exit 1") == ""  # it would fail if it compiled
    assert runner.compiled == 1
    (library,) = runner.libraries
    assert library.parent == runner.cache / "passerby"


def test_another_compiler_or_flag_is_another_library(runner: Runner) -> None:
    runner.run()
    runner.run(CC=f"{runner.compiler} -DANOTHER")
    assert runner.compiled == 2
    assert len(runner.libraries) == 2


def test_processes_that_start_at_once_all_compute_and_leave_whole_libraries(runner: Runner) -> None:
    together = [runner.start(THEN="sleep 1") for _ in range(3)]
    assert [runner.finish(process) for process in together] == [""] * 3
    assert runner.compiled > 1, "they did not meet; make the compiler slower"
    assert {path.suffix for path in runner.libraries} == {".so"}
    assert runner.run(THEN="exit 1") == ""


@pytest.mark.parametrize("kept_bytes", [0, 100, 10_000])
def test_a_damaged_library_is_compiled_again(runner: Runner, kept_bytes: int) -> None:
    runner.run()
    (library,) = runner.libraries
    library.write_bytes(library.read_bytes()[:kept_bytes])
    assert f"{library} is damaged; compiling it again" in runner.run()
    assert runner.compiled == 2
    assert runner.run(THEN="exit 1") == ""


def test_without_a_cache_each_process_compiles_and_says_so(runner: Runner) -> None:
    runner.cache.write_text("a file, where no folder can be made")
    for number in (1, 2):
        assert "the next run will compile kernels.c again" in runner.run()
        assert runner.compiled == number


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/nowhere/cc", "No such file or directory: '/nowhere/cc'"),
        ("false", "false fails"),
        ("/dev/null", "Permission denied: '/dev/null'"),
        ("true", "kernels.so: cannot open shared object file"),  # as in a folder without exec
        ("cc '", "No closing quotation"),
    ],
)
def test_where_nothing_can_be_compiled_the_error_says_why(
    compiler: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CannotCompile, match=re.escape(reason)):
        compiled.__wrapped__()


@pytest.mark.parametrize("compiler", ["env LANG=C cc", ""])
def test_the_compiler_may_be_a_command_with_arguments(runner: Runner, compiler: str) -> None:
    assert runner.run(CC=compiler) == ""
    assert len(runner.libraries) == 1
