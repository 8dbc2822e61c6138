"""Who waits for long says for what, at the level that operators see."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.indexer import retry
from services.indexer.retry import retry_until_available
from services.runtime.errors import Unavailable


async def warnings(monkeypatch: pytest.MonkeyPatch, away_s: float) -> list[str]:
    """The reasons that are given while something is away for so long."""
    monkeypatch.setattr(retry, "_FIRST_WARNING_S", 0.5)
    monkeypatch.setattr(retry, "_WARNING_EVERY_S", 0.5)
    monkeypatch.setattr(retry, "_LONGEST_DELAY_S", 0.1)
    back_at = asyncio.get_running_loop().time() + away_s

    async def attempt() -> None:
        if asyncio.get_running_loop().time() < back_at:
            raise Unavailable("Milvus is away")

    with capture_logs() as logs:
        await retry_until_available(attempt)
    said = [entry for entry in logs if entry["log_level"] == "warning"]
    assert all(entry["event"] == "still_waiting" for entry in said)
    return [entry["reason"] for entry in said]


async def test_a_long_wait_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    said = await warnings(monkeypatch, away_s=1.4)
    assert set(said) == {"Milvus is away"}
    assert len(said) <= 2


async def test_a_short_wait_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await warnings(monkeypatch, away_s=0.3) == []
