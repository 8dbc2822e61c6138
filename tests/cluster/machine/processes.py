"""The cluster's programs as processes of this machine: started, and ended with all they started."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster.machine.layout import Layout, Node


class Processes:
    """Of one cluster, by name; each leads a group of its own, whose number a file keeps."""

    def __init__(self, layout: Layout, programs: Path) -> None:
        self._layout = layout
        self._programs = programs
        self._numbers = layout.state / "processes"
        self.logs = layout.state / "logs"

    def start(self, name: str, node: Node, *words: str | Path | int, **environment: str) -> None:
        """Runs the command on the node until it is ended."""
        for folder in (self._numbers, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        path = f"{self._programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
        command = [*map(str, node.enter), *map(str, words)]
        with (self.logs / f"{name}.log").open("ab") as log:
            # It outlives us on purpose, of which a Popen would warn.
            number = os.posix_spawnp(
                command[0],
                command,
                {**os.environ, "PATH": path, **environment},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                ],
                setsid=True,
            )
        (self._numbers / name).write_text(str(number))

    def end(self, names: Sequence[str] | None = None, *, at_once: bool = False) -> None:
        """Ends those, or all. at_once: without letting them tidy up, as a power cut would."""
        files = [file for file in self._files() if names is None or file.name in names]
        groups = [number for file in files if self._is_ours(number := int(file.read_text()))]
        if not at_once:
            _signal(groups, signal.SIGTERM)
            _wait(groups, 10)
        _signal(groups, signal.SIGKILL)
        _wait(groups, 5)
        for file in files:
            file.unlink()

    def end_shims(self, node: Node) -> None:
        """Kills those who hold the node's containers, and who outlive containerd on purpose."""
        socket_folder = str(self._layout.run_folder(node))
        for number, words in _running():
            if "containerd-shim" in words and socket_folder in words:
                _signal([number], signal.SIGKILL)

    @property
    def running(self) -> bool:
        """Whether any of them is."""
        return any(self._is_ours(int(file.read_text())) for file in self._files())

    def leftovers(self) -> list[str]:
        """Processes that still name our folder in their command."""
        return [words for number, words in _running() if self._is_ours(number)]

    def _files(self) -> list[Path]:
        return sorted(self._numbers.glob("*"))

    def _is_ours(self, number: int) -> bool:
        """Not a stranger's that was given the number of one of ours; each names our folder."""
        return f"{self._layout.state}/" in _command(number)


def _running() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name), _command(int(entry.name))


def _command(number: int) -> str:
    """Its words; none where it has ended."""
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return ""
    return words.replace(b"\0", b" ").decode(errors="replace")


def _signal(groups: Sequence[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def _wait(groups: Sequence[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_alive(group) for group in groups):
        time.sleep(0.1)


def _alive(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        # Those that this process started stay zombies until they are waited for.
        os.waitpid(group, os.WNOHANG)
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
