"""A checkpoint on disk is always a whole one, and reading one runs nothing."""

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.checkpoint import (
    UnusableCheckpoint,
    load_checkpoint,
    save_checkpoint,
)


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": {"a": torch.arange(3)}, "steps": 7, "recipe": "{}"})
    state = load_checkpoint(path)
    assert torch.equal(state["weights"]["a"], torch.arange(3))
    assert (state["steps"], state["recipe"]) == (7, "{}")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"steps": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UnusableCheckpoint, match="previous one is intact"):
            save_checkpoint(path, {"steps": 2, "weights": torch.rand(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(path) == {"steps": 1}
    assert list(tmp_path.iterdir()) == [path]


KILLED_WHILE_WRITING = """
import resource, signal, sys, torch
from pathlib import Path
from training.checkpoint import save_checkpoint

# The kernel kills the process at the 100,001st byte of the 400,000.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save_checkpoint(Path(sys.argv[1]), {"weights": torch.rand(100_000)})
"""


def test_a_killed_write_never_replaces_a_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"steps": 1})
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], timeout=60)
    assert done.returncode == -signal.SIGXFSZ
    assert len(list(tmp_path.iterdir())) == 2  # it had begun to write
    assert load_checkpoint(path) == {"steps": 1}
    save_checkpoint(path, {"steps": 2})
    assert load_checkpoint(path) == {"steps": 2}
    assert list(tmp_path.iterdir()) == [path]


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.pt"
    torch.save({"steps": Malicious()}, path)
    with pytest.raises(UnusableCheckpoint, match=r"of this program \(UnpicklingError\); move"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UnusableCheckpoint, match="move it away to train from the start"):
        load_checkpoint(path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(UnusableCheckpoint, match="move it away to train from the start"):
        load_checkpoint(path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_checkpoint_that_cannot_be_read_may_be_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "checkpoint.pt"

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(UnusableCheckpoint, match=r"could not be read .*; the file may be intact"):
        load_checkpoint(path)


TOO_LARGE_FOR_MEMORY = """
import resource, sys
from pathlib import Path
from training.checkpoint import load_checkpoint

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, used + 100_000_000))
load_checkpoint(Path(sys.argv[1]))
"""


def test_a_checkpoint_that_does_not_fit_in_memory_says_so(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.zeros(50_000_000)})
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE_FOR_MEMORY, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "UnusableCheckpoint" in done.stderr.splitlines()[-1]
    assert "Cannot allocate memory" in done.stderr.splitlines()[-1]


def test_something_else_than_a_dict_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UnusableCheckpoint, match="not a checkpoint of this program"):
        load_checkpoint(tmp_path / "list.pt")
