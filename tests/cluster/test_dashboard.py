"""Every expression of the dashboard and of the alerts finds its series in a release under load."""

import pytest

from deploy.helm.dashboard import ROWS, SPAN
from tests.cluster import client_pod
from tests.cluster.machine.shell import wait_for
from tests.cluster.people import GALLERY, finished, push
from tests.cluster.prometheus import Prometheus, selectors
from tests.cluster.records import Record
from tests.cluster.release import INSIDE, Release
from tests.cluster.search_load import SearchLoad

pytestmark = pytest.mark.long

# There is none in this cluster.
NEEDS_A_GPU = {'passerby_embedder_gpu_memory_bytes{namespace=~"$namespace"}'}
# Four scrapes, as Grafana reckons.
RATE_INTERVAL_S = 60


def test_every_expression_has_series(watched: Release, record: Record) -> None:
    prometheus = Prometheus(watched)
    prometheus.wait_until_it_watches()
    variables = {"$namespace": watched.cluster.namespace, SPAN: f"{RATE_INTERVAL_S}s"}

    def found(expression: str) -> bool:
        for variable, value in variables.items():
            expression = expression.replace(variable, value)
        return bool(prometheus.query(expression))

    drawn = {line for panels in ROWS.values() for panel in panels for line in panel.lines.values()}
    asked = {part for rule in prometheus.rules() for part in selectors(rule["query"])}
    unseen = drawn | asked

    def all_seen() -> bool:
        unseen.difference_update([expression for expression in unseen if found(expression)])
        return unseen <= NEEDS_A_GPU

    with SearchLoad(watched, GALLERY) as load:
        watched.cluster.python(client_pod.NAME, INSIDE / "search_by_http.py", GALLERY)
        finished(watched, push(watched, "drawn"))
        # A scrape that comes too late on a busy machine leaves a gap.
        wait_for(all_seen, f"series of {unseen}", 3 * RATE_INTERVAL_S)
    record.load(load)
    record.note = f"{len(drawn)} of the dashboard, {len(asked)} of the alerts"
    assert unseen == NEEDS_A_GPU
    assert [rule["lastError"] for rule in prometheus.rules() if rule.get("lastError")] == []
