"""Kept images come back as they were; a filename never becomes a path."""

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
    with pytest.raises(Unavailable, match="failed: Unable to locate credentials"):
        await Images("memory://kept").put("people", {1: b"one"})
