"""Kept images come back as they were; a filename never becomes a path."""

import asyncio
import threading
from pathlib import Path
from unittest.mock import Mock

import fsspec
import pytest

from services.gallery.images import Images
from services.runtime.errors import Unavailable


async def test_what_was_kept_comes_back_until_it_is_removed(tmp_path: Path) -> None:
    images = Images((tmp_path / "not" / "yet").as_uri())
    await images.put("people", {1: b"one", 2**63 - 1: b"two"})
    await images.put("people", {1: b"one again"})
    assert await images.get("people", 1) == b"one again"
    assert await images.get("people", 2**63 - 1) == b"two"
    assert await images.get("others", 1) is None
    await images.remove("people", [1, 3])
    assert await images.get("people", 1) is None
    assert await images.get("people", 2**63 - 1) == b"two"


async def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    images = Images((tmp_path / "file").as_uri())
    with pytest.raises(Unavailable, match="image store"):
        await images.put("people", {1: b"one"})


async def test_whatever_the_file_system_raises_means_that_the_store_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S3's client has errors that are none of the operating system's."""
    store = fsspec.filesystem("memory")
    monkeypatch.setattr(store, "pipe", Mock(side_effect=Exception("Unable to locate credentials")))
    with pytest.raises(Unavailable, match=r"failed \(.*Unable to locate credentials"):
        await Images("memory://kept").put("people", {1: b"one"})


async def test_a_store_that_hangs_keeps_no_others_waiting_and_few_threads(tmp_path: Path) -> None:
    images = Images(tmp_path.as_uri(), timeout_s=0.2)
    hangs, started = threading.Event(), 0

    def hang(_: str) -> bytes:
        nonlocal started
        started += 1
        hangs.wait()
        return b"late"

    images._files.cat_file = hang  # fsspec, as a mount that hangs would have it
    before = threading.active_count()
    for _ in range(3):
        calls = [images.get("people", number) for number in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, Unavailable) for answer in answers)
    assert started == 16, "a thread more for each retry"
    assert threading.active_count() <= before + 16
    # Names are resolved in the event loop's own threads.
    async with asyncio.timeout(5):
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
    hangs.set()
    async with asyncio.timeout(5):
        while await _answer(images) != b"late":
            await asyncio.sleep(0.01)


async def _answer(images: Images) -> bytes | None:
    try:
        return await images.get("people", 1)
    except Unavailable:
        return None
