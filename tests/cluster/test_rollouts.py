"""Restarts, upgrades and rollbacks of a release that has two of each: no search fails."""

import time

import pytest

from tests.cluster.people import GALLERY
from tests.cluster.records import Record
from tests.cluster.release import Release
from tests.cluster.search_load import SearchLoad

SERVICES = ["embedder", "indexer", "query"]
SETTLE_S = 5


def restart(release: Release, *parts: str) -> None:
    names = [f"deployment/{release.name}-{part}" for part in parts]
    release.cluster.kubectl("rollout", "restart", *names)
    for name in names:
        release.cluster.rolled_out(name)


def test_restart_each_service(pair: Release, record: Record) -> None:
    with SearchLoad(pair, GALLERY) as load:
        for service in SERVICES:
            restart(pair, service)
        time.sleep(SETTLE_S)
    record.load(load)
    assert load.failed == 0, load.said


def test_upgrade(pair: Release, record: Record) -> None:
    """A setting that all three read: all roll at once."""
    with SearchLoad(pair, GALLERY) as load:
        pair.upgrade(settings={"LOG_LEVEL": "debug"})
        pair.wait_until_ready()
        time.sleep(SETTLE_S)
    record.load(load)
    assert load.failed == 0, load.said


def test_bad_upgrade_and_rollback(pair: Release, record: Record) -> None:
    """The images of the new version do not exist."""
    revision = max(int(r["revision"]) for r in pair.history())
    with SearchLoad(pair, GALLERY) as load:
        pair.upgrade(image={"tag": "9.9.9"})
        time.sleep(15)
        code, said = pair.doctor()
        pair.cluster.helm("rollback", pair.name)
        pair.wait_until_ready()
        time.sleep(SETTLE_S)
    record.load(load)
    assert code == 1
    assert "ErrImagePull" in said or "ImagePullBackOff" in said, said
    assert max(int(r["revision"]) for r in pair.history()) == revision + 2
    assert load.failed == 0, load.said


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_restarts_upgrades_and_rollbacks_in_a_row(pair: Release, record: Record) -> None:
    with SearchLoad(pair, GALLERY) as load:
        for number in range(10):
            restart(pair, *SERVICES)
            pair.upgrade(settings={"LOG_LEVEL": ("debug", "info")[number % 2]})
            pair.wait_until_ready()
            pair.cluster.helm("rollback", pair.name)
            pair.wait_until_ready()
    record.load(load)
    assert load.failed == 0, load.said
