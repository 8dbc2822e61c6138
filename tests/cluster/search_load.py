"""Searches from a pod while something happens to the release: how many failed, and when."""

import json
import subprocess
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.cluster import client_pod
from tests.cluster.machine.shell import CommandFailed, wait_for
from tests.cluster.release import INSIDE, Release

CLIENTS = 3
# Failures closer together than this are one outage.
_ONE_OUTAGE_S = 2.0


def searched(release: Release, gallery: str) -> float:
    """Seconds until a search succeeds again."""
    return wait_for(lambda: _finds(release, gallery), f"a search of {gallery} succeeds")


def _finds(release: Release, gallery: str) -> bool:
    try:
        release.ten_searches(gallery)
    except CommandFailed:
        return False
    return True


@dataclass
class SearchLoad:
    """Three clients, each with a connection of its own, from `__enter__` to `__exit__`.

    What they saw is there after the end.
    """

    release: Release
    gallery: str
    pod: str = client_pod.NAME
    searches: int = 0
    slowest_s: float = 0.0
    failures: list[tuple[float, float, str]] = field(default_factory=list)
    """(when it began, when it ended, what it said), in order."""
    _running: list[subprocess.Popen[str]] = field(default_factory=list)
    _began: float = 0.0

    def __enter__(self) -> Self:
        client_pod.start(self.release, self.pod)
        script = (INSIDE / "search_load.py").read_text()
        namespace = ["kubectl", "-n", self.release.cluster.namespace]
        command = [*namespace, "exec", "-i", self.pod, "--", "python", "-c", script]
        for _ in range(CLIENTS):
            process = subprocess.Popen(
                [*command, self.gallery], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self._running.append(process)
            assert process.stdout
        # Each says so when it has found something.
        assert [p.stdout and p.stdout.readline() for p in self._running] == ["ready\n"] * CLIENTS
        self._began = time.time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._running:
            output, _ = process.communicate(timeout=60)
            if kind is None:
                seen = json.loads(output)
                self.searches += len(seen["seconds"])
                self.slowest_s = max(self.slowest_s, *seen["seconds"])
                self.failures += [tuple(failure) for failure in seen["failures"]]
        self.failures.sort()

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def outages(self) -> list[tuple[float, float]]:
        """From when to when searches failed, in seconds since the load began."""
        found: list[tuple[float, float]] = []
        for start, end, _ in self.failures:
            start, end = start - self._began, end - self._began
            if found and start - found[-1][1] < _ONE_OUTAGE_S:
                found[-1] = found[-1][0], max(found[-1][1], end)
            else:
                found.append((start, end))
        return found

    @property
    def said(self) -> str:
        """What the failures said, each once."""
        return "\n".join(sorted({message for _, _, message in self.failures}))
