"""Query follows its load, up and down again, and loses no search on the way."""

import pytest

from tests.cluster.machine.shell import wait_for
from tests.cluster.people import GALLERY
from tests.cluster.records import Record
from tests.cluster.release import Release
from tests.cluster.search_load import SearchLoad

pytestmark = pytest.mark.long


def wanted(release: Release) -> int:
    return int(release.cluster.get("hpa/passerby-query")["status"].get("desiredReplicas", 0))


@pytest.mark.timeout(1200)
def test_query_up_and_down(pair: Release, record: Record) -> None:
    autoscaling = {"enabled": True, "minReplicas": 2, "maxReplicas": 3, "cpuPercent": 30}
    with SearchLoad(pair, GALLERY) as load:
        before = {pod["metadata"]["name"] for pod in pair.pods_of("query")}
        pair.upgrade(query={"autoscaling": autoscaling})
        up_s = wait_for(lambda: wanted(pair) == 3, "three are wanted", 180)
        pair.wait_until_ready()
        # What runs goes on running where autoscaling is turned on.
        assert before <= {pod["metadata"]["name"] for pod in pair.pods_of("query")}
    record.load(load)
    # Kubernetes waits for five minutes before it takes pods away.
    down_s = wait_for(lambda: wanted(pair) == 2, "two are wanted", 600)
    record.note = f"up after {up_s:.0f} s, down after {down_s:.0f} s"
    pair.upgrade()
    pair.wait_until_ready()
    assert load.failed == 0, load.said
