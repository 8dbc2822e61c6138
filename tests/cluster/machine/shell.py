"""Commands that the cluster is made of, and what they said where they fail."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Words = list[str | Path | int]


class CommandFailed(Exception):
    """The message holds the command and everything that it printed."""


class NotInTime(Exception):
    """What was waited for, and how long."""


def run(
    *words: str | Path | int,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """What the command prints. Raises CommandFailed. env: in addition to our own."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command,
        input=stdin,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def succeeds(*words: str | Path | int) -> bool:
    try:
        run(*words)
    except CommandFailed:
        return False
    return True


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> float:
    """Seconds until the condition held, asked twice a second. Raises NotInTime."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            raise NotInTime(f"{what}: not within {timeout_s} s")
        time.sleep(0.5)
    return time.monotonic() - start
