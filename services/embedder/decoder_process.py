"""A process that decodes images of strangers, one after the other: `decoding` starts and ends it.

A socket carries in how large the pixels are to be and the file, and out what came of it; pixels
are left in memory that both processes see. What a file may cost is limited by the kernel, also
where a library in C decodes: address space beyond what the process has once it is ready, and
seconds of CPU, at whose end SIGPROF kills it. Neither torch nor the GPU are here.
"""

import enum
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from typing import BinaryIO

from PIL import AvifImagePlugin

from services.embedder.dcpl.memory import address_space
from services.embedder.images import InvalidImage, Undecodable, decode

REQUEST = struct.Struct("!QHH")
"""Bytes of the file, which follows; height and width of the pixels."""
REPLY = struct.Struct("!BQH")
"""Outcome, bytes of address space in use, bytes of the reason, which follows."""
PIXELS_BYTES = 4096 * 4096 * 3
"""Of the largest image that a model may take; memory is used by what is written only."""

TIMED_OUT = signal.SIGPROF


class Outcome(enum.IntEnum):
    PIXELS = 0
    INVALID = 1
    """The file is to blame, however much memory there is."""
    UNDECODABLE = 2
    """The decoder gave up; with more memory it might not have."""
    NO_MEMORY = 3


def main(socket_fd: int, pixels_fd: int, memory_bytes: int, cpu_s: float) -> None:
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # else one thread for each core, in each process
    with (
        socket.socket(fileno=socket_fd) as parent,
        parent.makefile("rb") as requests,
        mmap.mmap(pixels_fd, PIXELS_BYTES) as pixels,
    ):
        _be_first_to_go()
        before = address_space()
        resource.setrlimit(resource.RLIMIT_AS, (before + memory_bytes, resource.RLIM_INFINITY))
        parent.sendall(REPLY.pack(Outcome.PIXELS, 0, 0))  # ready
        while request := requests.read(REQUEST.size):
            outcome, reason = _answer(request, requests, pixels, cpu_s)
            text = reason.encode(errors="replace")[:1000]
            parent.sendall(REPLY.pack(outcome, address_space() - before, len(text)) + text)


def _answer(
    request: bytes, requests: BinaryIO, pixels: mmap.mmap, cpu_s: float
) -> tuple[Outcome, str]:
    size, height, width = REQUEST.unpack(request)
    try:
        data = requests.read(size)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        image = decode(data, height=height, width=width)
        pixels[: image.nbytes] = image.tobytes()
    except Undecodable as error:
        return Outcome.UNDECODABLE, str(error)
    except InvalidImage as error:
        return Outcome.INVALID, str(error)
    except MemoryError:
        return Outcome.NO_MEMORY, ""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return Outcome.PIXELS, ""


def _be_first_to_go() -> None:
    """Where memory runs out all the same, the kernel takes this process and not the embedder."""
    with open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123
        score.write("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - what libraries in C say of each file
        os.dup2(nowhere.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
