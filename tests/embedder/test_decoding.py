"""Images are decoded in processes with limits: what exceeds one costs itself and nobody else."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from services.embedder.decoder import Pixels
from services.embedder.decoding import Decoders
from services.embedder.images import InvalidImage, decode
from services.runtime.errors import Unavailable
from tests.support.pictures import (
    VAST_WEBP,
    file_of,
    half_and_half,
    picture,
    png_claiming,
    tiff_claiming,
)

HEIGHT, WIDTH = 64, 32


@contextlib.asynccontextmanager
async def decoders(
    processes: int = 1, *, memory_mib: int = 1024, cpu_s: float = 10
) -> AsyncIterator[Decoders]:
    async with Decoders(processes, memory_mib=memory_mib, cpu_s=cpu_s) as running:
        yield running


def processes() -> list[int]:
    """Those that decode for this one."""
    children = proc(os.getpid(), f"task/{threading.get_native_id()}/children").split()
    return [int(pid) for pid in children if "decoder_process" in proc(int(pid), "cmdline")]


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def outcomes(running: Decoders, *files: bytes) -> list[Pixels | BaseException]:
    waiting = (running.decode(file, height=HEIGHT, width=WIDTH) for file in files)
    return list(await asyncio.gather(*waiting, return_exceptions=True))


def assert_decoded(pixels: object, file: bytes) -> None:
    assert isinstance(pixels, np.ndarray), pixels
    assert np.array_equal(pixels, decode(file, height=HEIGHT, width=WIDTH))


async def test_pixels_are_those_that_training_sees_each_in_its_place() -> None:
    files = [picture(seed) for seed in range(40)]
    files += [file_of(half_and_half(), kind) for kind in ("JPEG", "WEBP", "GIF", "TIFF", "AVIF")]
    async with decoders(2) as running:
        for pixels, file in zip(await outcomes(running, *files), files, strict=True):
            assert_decoded(pixels, file)
        wide = await running.decode(files[0], height=100, width=300)
    assert np.array_equal(wide, decode(files[0], height=100, width=300))


async def test_what_exceeds_a_limit_is_rejected_with_it_and_its_neighbours_are_not() -> None:
    files = [picture(1), VAST_WEBP, picture(2)]
    async with decoders(cpu_s=0.3) as running:
        before, slow, after = await outcomes(running, *files)
    assert_decoded(before, files[0])
    assert_decoded(after, files[2])
    assert str(slow) == (
        "CPU to decode an image: more than the limit of 0.3 seconds "
        "(set by EMBEDDER_DECODE_CPU_S); scale it down"
    )
    large = file_of(half_and_half(size=(6000, 5000)), "GIF")
    async with decoders(memory_mib=64) as running:
        *taken, too_large = await outcomes(running, *files[::2], large)
    for pixels, file in zip(taken, files[::2], strict=True):
        assert_decoded(pixels, file)
    assert str(too_large) == (
        "memory to decode an image: more than the limit of 64 MiB "
        "(set by EMBEDDER_DECODE_MEMORY_MIB); scale it down"
    )


async def test_a_large_image_is_decoded_where_it_may_take_more() -> None:
    large = file_of(half_and_half("RGB", size=(7000, 7000)), "PNG", compress_level=1)
    async with decoders() as running:
        (pixels,) = await outcomes(running, large)
    assert_decoded(pixels, large)


async def test_what_a_header_promises_in_vain_costs_nothing() -> None:
    """Memory of a process that decoded such files, beside one that did not."""
    liars = [
        tiff_claiming(64, 128, tile=(26_000, 26_000)),
        tiff_claiming(64, 128, tile=(7_000, 7_000)),
        png_claiming(30_000, 30_000),
        b"hello",
        b"",
    ]
    async with decoders() as running:
        assert_decoded((await outcomes(running, picture(1)))[0], picture(1))
        before = peak_memory()
        for answer in await outcomes(running, *liars):
            assert isinstance(answer, InvalidImage)
        assert peak_memory() - before < 4 << 20


def peak_memory() -> int:
    (pid,) = processes()
    return int(proc(pid, "status").partition("VmHWM:")[2].split()[0]) * 1024


async def test_an_image_whose_process_others_end_is_decoded_by_the_next_one() -> None:
    async with decoders() as running:
        await outcomes(running, picture(0))
        (pid,) = processes()
        os.kill(pid, signal.SIGSTOP)
        waiting = [
            asyncio.create_task(running.decode(picture(n), height=HEIGHT, width=WIDTH))
            for n in range(3)
        ]
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        for number, task in enumerate(waiting):
            assert_decoded(await task, picture(number))


async def test_a_search_goes_before_bulk() -> None:
    done: list[str] = []

    async def decoded(running: Decoders, name: str, bulk: bool) -> None:
        await running.decode(picture(0), height=HEIGHT, width=WIDTH, bulk=bulk)
        done.append(name)

    async with decoders() as running, asyncio.TaskGroup() as group:
        for name in ("first", "second", "search"):  # before the process is there
            group.create_task(decoded(running, name, bulk=name != "search"))
    assert done == ["search", "first", "second"]


async def test_an_image_that_ends_its_process_twice_is_rejected_and_no_other() -> None:
    async with decoders() as running:
        vast = asyncio.create_task(running.decode(VAST_WEBP, height=HEIGHT, width=WIDTH))
        neighbour = asyncio.create_task(running.decode(picture(1), height=HEIGHT, width=WIDTH))
        ended: list[int] = []
        for _ in range(2):  # as a decoder in C does that meets what it cannot bear
            ended.append(await busy_process(ended))
            os.kill(ended[-1], signal.SIGSEGV)
        with pytest.raises(InvalidImage, match=r"ended the process .* 2 times .* SIGSEGV"):
            await vast
        assert_decoded(await neighbour, picture(1))


async def busy_process(other_than: list[int]) -> int:
    """One that has computed for longer than a start takes."""
    ticks = os.sysconf("SC_CLK_TCK")
    while True:
        for pid in set(processes()) - set(other_than):
            user, system = proc(pid, "stat").rpartition(")")[2].split()[11:13]
            if int(user) + int(system) > 0.6 * ticks:
                return pid
        await asyncio.sleep(0.01)


async def test_without_processes_images_are_no_ones_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with decoders() as running:
        await outcomes(running, picture(0))
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        os.kill(processes()[0], signal.SIGKILL)
        with pytest.raises(Unavailable, match=r"cannot start a process .*/nowhere/python"):
            await running.decode(picture(1), height=HEIGHT, width=WIDTH)
        monkeypatch.undo()
        assert_decoded(await running.decode(picture(1), height=HEIGHT, width=WIDTH), picture(1))


async def test_processes_end_with_the_embedder_and_hold_none_of_its_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=secret")
    async with decoders(2) as running:
        await outcomes(running, *(picture(number) for number in range(8)))
        assert len(processes()) == 2
        for pid in processes():
            assert "secret" not in proc(pid, "environ")
            assert "torch" not in proc(pid, "maps")
    assert not processes()
