"""One process that decodes images (`decoder_process`), as the embedder sees it."""

import asyncio
import mmap
import os
import signal
import socket
import subprocess
import sys
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.embedder import decoder_process
from services.embedder.decoder_process import PIXELS_BYTES, REPLY, REQUEST, TIMED_OUT, Outcome

Pixels = NDArray[np.uint8]

# The limit is one of CPU, since a busy machine is not the image's fault: a process that stands
# still uses none, and is killed once it has had this many times as long.
STANDS_STILL = 30
STARTS_WITHIN_S = 120
# An image leaves nothing behind: a process that grew by more than this part of what an image may
# take is replaced.
SWOLLEN = 1 / 4


class DecoderDied(Exception):
    """The process ended, or stood still and was killed: says how."""

    def __init__(self, exit_code: int) -> None:
        self.timed_out = exit_code == -TIMED_OUT
        """The image took too long. Any other end may have reasons outside of the image."""
        name = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
        super().__init__(name)


class Decoder:
    """A process, from its start to its end; decodes one image at a time."""

    def __init__(self, memory_bytes: int, cpu_s: float) -> None:
        """Use start(). Raises OSError."""
        self._memory_bytes, self._cpu_s = memory_bytes, cpu_s
        self._replies = _Replies()
        self.swollen = False
        """Whether it holds more memory than it should, and is to be replaced."""
        self._ours, theirs = socket.socketpair()
        pixels = os.memfd_create("pixels")
        with theirs:
            try:
                os.ftruncate(pixels, PIXELS_BYTES)
                self._pixels = mmap.mmap(pixels, PIXELS_BYTES)
                arguments = (theirs.fileno(), pixels, memory_bytes, cpu_s)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", decoder_process.__name__, *map(str, arguments)],
                    env=_environment(),
                    pass_fds=arguments[:2],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for us, who finish what is in hand
                )
            except BaseException:
                self._ours.close()
                raise
            finally:
                os.close(pixels)

    @classmethod
    async def start(cls, memory_bytes: int, cpu_s: float) -> Self:
        """memory_bytes, cpu_s: what an image may cost. Raises OSError and DecoderDied."""
        decoder = cls(memory_bytes, cpu_s)
        loop = asyncio.get_running_loop()
        try:
            ready = decoder._replies.next()
            await loop.create_unix_connection(lambda: decoder._replies, sock=decoder._ours)
            await decoder._reply(ready, STARTS_WITHIN_S)
        except BaseException:
            await decoder.end()
            raise
        return decoder

    @property
    def ended(self) -> bool:
        return self._replies.ended

    async def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels | tuple[Outcome, str]:
        """An image file -> (height, width, 3), or why not. shape: height and width.

        Raises DecoderDied: it is of no use then.
        """
        reply = self._replies.next()
        assert self._replies.transport, "not started"
        self._replies.transport.writelines([REQUEST.pack(len(data), *shape), data])
        outcome, reason = await self._reply(reply, STANDS_STILL * self._cpu_s)
        if outcome is not Outcome.PIXELS:
            return outcome, reason
        height, width = shape
        pixels = np.frombuffer(self._pixels, np.uint8, height * width * 3)
        return pixels.reshape(height, width, 3).copy()  # the next image overwrites them

    async def _reply(self, reply: "asyncio.Future[bytes]", timeout_s: float) -> tuple[Outcome, str]:
        standing_still = asyncio.get_running_loop().call_later(timeout_s, self._process.kill)
        try:
            content = await reply
        finally:
            standing_still.cancel()
        if not content:
            raise DecoderDied(await self._exit_code())
        outcome, grown, _ = REPLY.unpack_from(content)
        self.swollen = grown > self._memory_bytes * SWOLLEN
        return Outcome(outcome), content[REPLY.size :].decode(errors="replace")

    async def _exit_code(self) -> int:
        """Kills it unless it has ended by itself. Negative: the number of the signal."""
        self._process.kill()  # what is ending keeps its own exit code
        return await asyncio.to_thread(self._process.wait)

    async def end(self) -> None:
        """At once, whatever it is doing."""
        await self._exit_code()
        if self._replies.transport:
            self._replies.transport.abort()
        self._ours.close()


class _Replies(asyncio.Protocol):
    """One awaited reply after the other; an empty one when the process ends."""

    transport: asyncio.Transport | None = None
    ended = False

    def next(self) -> "asyncio.Future[bytes]":
        self._received = b""
        self._reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return self._reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= REPLY.size:
            *_, length = REPLY.unpack_from(self._received)
            if len(self._received) == REPLY.size + length and not self._reply.done():
                self._reply.set_result(self._received)

    def connection_lost(self, _error: Exception | None) -> None:
        self.ended = True
        if not self._reply.done():
            self._reply.set_result(b"")


def _environment() -> dict[str, str]:
    """How to start Python, and no secret that the embedder may hold."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "LD_"))}
    return ours | {"OPENBLAS_NUM_THREADS": "1"}
