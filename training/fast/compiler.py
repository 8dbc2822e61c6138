"""kernels.c as a shared library: compiled once a machine, then kept in the user's cache folder."""

import ctypes
import hashlib
import logging
import os
import shlex
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from training.write_aside import written_aside

LOG = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


class CannotCompile(Exception):
    """kernels.c cannot be compiled or loaded here; says why."""


@cache
def compiled(*definitions: str) -> ctypes.CDLL:
    """kernels.c with these definitions, such as "-DBFLOAT16". Raises CannotCompile."""
    try:
        # CC may be "ccache gcc".
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        command = [*compiler, *FLAGS, *definitions]
        key = _key(command)
        return _cached(key) or _compile(command, key)
    except subprocess.CalledProcessError as error:
        raise CannotCompile(error.stderr.strip() or f"{error.cmd[0]} fails") from error
    except (OSError, ValueError) as error:  # no such program, a folder without exec, an open quote
        raise CannotCompile(str(error)) from error


def _key(command: list[str]) -> str:
    """Of the source, the flags, and what the compiler says of itself and of this processor.

    -march=native means another processor on another machine, and the machines of a cluster may
    share a home: the macros that the compiler predefines tell its version and the instructions.
    """
    asked = [*command, "-dM", "-E", "-x", "c", os.devnull]
    macros = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    described = f"{command} {macros} {SOURCE.read_text()}"
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled libraries are kept; it may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "passerby"


def _cached(key: str) -> ctypes.CDLL | None:
    """The library of an earlier process. A damaged one is passed over: its name says its content's
    digest.
    """
    try:
        for library in cache_folder().glob(f"kernels-{key}-*.so"):
            if library.name == _name(key, library.read_bytes()):
                return ctypes.CDLL(str(library))
            LOG.warning("%s is damaged; compiling it again", library)
            library.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # without a home, or in one without exec
        LOG.warning("compiling kernels.c, as the cache cannot be used: %s", error)
    return None


def _compile(command: list[str], key: str) -> ctypes.CDLL:
    with TemporaryDirectory() as folder:
        library = Path(folder) / "kernels.so"
        subprocess.run(
            [*command, "-o", library, SOURCE], check=True, capture_output=True, text=True
        )
        loaded = ctypes.CDLL(str(library))  # stays when its file is gone
        _keep(library.read_bytes(), key)
        return loaded


def _keep(content: bytes, key: str) -> None:
    """For the next process; several may do so at once."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with written_aside(cache_folder() / _name(key, content)) as path:
            path.write_bytes(content)
    except (OSError, RuntimeError) as error:
        LOG.warning("the next run will compile kernels.c again, as it cannot be kept: %s", error)


def _name(key: str, content: bytes) -> str:
    return f"kernels-{key}-{hashlib.sha256(content).hexdigest()[:16]}.so"
