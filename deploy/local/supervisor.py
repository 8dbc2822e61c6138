"""How the programs of the local stack are locked, started, waited for and stopped."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 120
# Longer than the services' own drain, so that it is they who decide what to give up.
STOP_TIMEOUT_S = 40

# Into the file that is named first; then it becomes the program.
WRITE_PID = 'echo $$ > "$0" && exec "$@"'


class StackError(Exception):
    """The stack cannot do what was asked: the message says what to change."""


@dataclass(frozen=True)
class Program:
    """One process of the stack."""

    name: str
    command: list[str]
    ports: list[str]
    """Names of the ports that it listens on."""
    answers: Callable[[], bool]
    """Whether it serves by now."""


class Supervisor:
    """Runs programs in the background, with their logs and locks in `state`.

    Whether a program runs is never written down but asked: it inherits a locked file, and the
    kernel releases the lock when the last process that holds it is gone. So a second supervisor
    on the same `state`, in another process, sees and stops the same programs.

    folder: the programs' working directory.
    """

    def __init__(
        self, state: Path, folder: Path, environment: Mapping[str, str], programs: list[Program]
    ) -> None:
        self.state = state
        self.environment = environment
        self.programs = programs
        """In the order in which they are started; they are stopped in the reverse order."""
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, program: Program) -> Path:
        return self.state / "logs" / f"{program.name}.log"

    def lock(self, program: Program) -> Path:
        return self.state / "run" / f"{program.name}.lock"

    def running(self, program: Program) -> bool:
        if not self.lock(program).exists():
            return False
        with self.lock(program).open() as lock:
            try:
                # Shared, or two who ask at once would take each other for the program.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def dead(self) -> list[str]:
        """Names of the programs that do not run."""
        return [program.name for program in self.programs if not self.running(program)]

    def start(self, program: Program) -> None:
        with self.lock(program).open("a") as lock, self.log(program).open("ab") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            self._reap(program.name)
            # It writes its own process id, so that a supervisor that is stopped right here leaves
            # no unknown program.
            self._children[program.name] = subprocess.Popen(
                ["/bin/sh", "-c", WRITE_PID, str(self.lock(program)), *program.command],
                cwd=self._folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                # Ctrl-C in the terminal must reach only the supervisor, which stops in order.
                start_new_session=True,
            )

    def wait_for(self, program: Program) -> None:
        """Returns when the program serves; raises StackError if it exits or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not program.answers():
            if not self.running(program):
                raise StackError(
                    f"{program.name} exited while starting:\n{_tail(self.log(program))}"
                )
            if time.monotonic() > deadline:
                raise StackError(
                    f"{program.name} is not ready after {START_TIMEOUT_S} s:\n"
                    f"{_tail(self.log(program))}"
                )
            time.sleep(0.1)

    def down(self) -> None:
        """Stops the services first, then what they write to; waits for each.

        Raises StackError, once all are down, if one did not stop in time and was killed.
        """
        killed = [program.name for program in reversed(self.programs) if not self._stop(program)]
        for name in list(self._children):
            self._reap(name)
        if killed:
            raise StackError(
                f"{', '.join(killed)} did not stop within {STOP_TIMEOUT_S} s and had to be "
                f"killed; the logs are in {self.state / 'logs'}"
            )

    def _stop(self, program: Program) -> bool:
        """False if it had to be killed."""
        pid = self._pid(program)
        if pid is None:
            return True
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.running(program):
            if time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                return False
            time.sleep(0.05)
        return True

    def _pid(self, program: Program) -> int | None:
        """None if it does not run."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.running(program):
            if text := self.lock(program).read_text():
                return int(text)
            if time.monotonic() > deadline:
                raise StackError(
                    f"{program.name} is running, but {self.lock(program)} does not hold its "
                    "process id"
                )
            time.sleep(0.01)  # it has just been started
        return None

    def _reap(self, name: str) -> None:
        """Collects the exit status of a program that this very process started."""
        if name in self._children:
            self._children.pop(name).wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
