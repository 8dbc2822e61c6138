"""The full Milvus as a process, for what Lite's server cannot show: growing and sealed segments.

2.3.5 is the newest that is a Python package, with etcd and local storage in one process. It is
installed once, in an environment of its own: it needs an old setuptools.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from pymilvus import MilvusClient, MilvusException

from tests.support.processes import wait_until

PACKAGES = ("milvus==2.3.5", "setuptools==80.9.0")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_PLACE = _CACHE / "passerby" / PACKAGES[0]
# As the chart has it for its own Milvus: what is not in an index yet is searched whole.
_CONFIG = "queryNode.segcore.interimIndex.enableIndex=false"


def installed() -> Path:
    """The program."""
    program = _PLACE / "bin" / "milvus-server"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", _PLACE], check=True)
        subprocess.run([_PLACE / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True)
    return program


@contextlib.contextmanager
def full_milvus_running(directory: Path) -> Iterator[str]:
    """A full Milvus on `directory`; yields its URI once it takes requests, after some 30 s.

    One at a time on a machine: some of its ports are fixed.
    """
    command: list[str | Path] = [installed(), "--data", directory, "--extra-config", _CONFIG]
    config = directory / "configs" / "milvus.yaml"
    # The package's program starts another, and leaves it behind when it ends.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        wait_until(config.exists, "Milvus' configuration", timeout_s=60)
        # That program takes the first port that is free.
        port = int(yaml.safe_load(config.read_text())["proxy"]["port"])
        uri = f"http://127.0.0.1:{port}"
        # Clients that were refused would try again ever more rarely.
        wait_until(lambda: _listens(port), "Milvus start", timeout_s=120)
        wait_until(lambda: _answers(uri), "Milvus takes requests", timeout_s=60)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(uri: str) -> bool:
    try:
        client = MilvusClient(uri, dedicated=True)
        client.list_collections(timeout=2)
        client.close()
    except MilvusException:
        return False
    return True
