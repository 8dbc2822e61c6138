"""Processes that tests start, ask, kill and start again: our services above all."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

REPOSITORY = Path(__file__).parents[2]
SERVING, NOT_SERVING = "SERVING", "NOT_SERVING"


def free_port() -> int:
    """A port for a program that will listen on it, or for nobody.

    A connection that ended there makes the kernel keep it for a minute from all who ask for any
    port, such as the tests of another worker; who names it (with SO_REUSEADDR) gets it.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
        return port


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    """Polls a server or process that offers nothing to await."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s} s")
        time.sleep(0.05)


@contextlib.contextmanager
def running(*command: str | Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is terminated, and if need be killed, at the end."""
    process = subprocess.Popen([str(part) for part in command], cwd=cwd)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def health(address: str, service: str = "") -> str:
    """SERVING or NOT_SERVING, or the status of a call that failed: UNAVAILABLE, NOT_FOUND."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            # The stub's types leave its methods out, as they differ for asynchronous channels.
            answer = stub.Check(request, timeout=5)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def wait_for_health(
    address: str, wanted: str = SERVING, service: str = "", timeout_s: float = 60
) -> None:
    """service: as the health service is asked; "" stands for everything that is needed."""
    wait_until(
        lambda: health(address, service) == wanted,
        f"{service or address} {wanted}",
        timeout_s,
    )


@dataclass
class Service:
    """One of our services as a process, on the same port each time it is started.

    As a context manager it is started, ready or not, and killed at the end.
    """

    name: str
    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *, ready: bool = True, **environment: str) -> None:
        """environment: more variables, for this start alone."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"services.{self.name}"],
            cwd=REPOSITORY,
            env={
                **os.environ,
                **self.environment,
                **environment,
                f"{self.name.upper()}_PORT": str(self.port),
            },
        )
        if ready:
            self.wait_until_serving()

    def wait_until_serving(self, service: str = "", timeout_s: float = 90) -> None:
        """service: as in `wait_for_health`."""

        def serves() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} exited with {self.process.returncode}")
            return health(self.address, service) == SERVING

        wait_until(serves, f"{self.name} serving", timeout_s)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        """Does nothing if it has ended, or was never started."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        self.start(ready=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
