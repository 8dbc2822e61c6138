"""Each alert fires for its real cause after its time, and none does without one.

Causes that do not meddle with each other are made at the same time, as most alerts wait for a
quarter of an hour.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.cluster import client_pod
from tests.cluster.machine.shell import wait_for
from tests.cluster.people import GALLERY, finished, push
from tests.cluster.prometheus import Prometheus
from tests.cluster.records import Fired, Record
from tests.cluster.release import Release
from tests.cluster.search_load import SearchLoad, searched

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

SILENT_S = 300
# Beyond an alert's `for`: scraped and evaluated every 15 s, over windows that have to fill.
SLACK_S = 180
# The longest window is of ten minutes.
ENDS_WITHIN_S = 900
# It speaks of the last hour.
STAYS = {"PasserbyDeadLetters"}
BROKEN_IMAGE = """\
mkdir -p /source/broken && echo "no image" > /source/broken/0.jpg
passerby push /source/broken --gallery broken || true
"""


class Watch:
    """What was done to a release, and which alert is to say so."""

    def __init__(self, release: Release, table: list[Fired]) -> None:
        self.prometheus = Prometheus(release)
        self._table = table
        self._made: dict[str, tuple[str, float]] = {}
        self._seconds: dict[str, float] = {}
        self._limits = {rule["name"]: rule["duration"] for rule in self.prometheus.rules()}
        # Of an earlier scenario: they may go on for as long as their windows are.
        self._lingering = self._active()

    def made(self, cause: str, alert: str) -> None:
        """An alert of an earlier cause has to end first, or would be taken for this one's."""
        if alert in self._lingering:
            wait_for(lambda: alert not in self._active(), f"{alert} ends", ENDS_WITHIN_S)
        self._made[alert] = cause, time.time()

    def until_all_fire(
        self, meanwhile: Callable[[], None] = lambda: None, *, also: frozenset[str] = frozenset()
    ) -> None:
        """None before its time, and no other. also: such as may, by the same causes."""

        def all_fire() -> bool:
            meanwhile()
            for alert, text in self.prometheus.firing().items():
                assert alert in {*self._made, *self._lingering, *also}, text
                if alert in self._made:
                    self._fires(alert, text)
            return self._seconds.keys() == self._made.keys()

        longest = max(self._limits[alert] for alert in self._made)
        wait_for(all_fire, f"{[*self._made]} fire", longest + SLACK_S)
        for alert, after in self._seconds.items():
            assert self._limits[alert] <= after <= self._limits[alert] + SLACK_S, (alert, after)

    def _active(self) -> set[str]:
        """Those that fire, and those that will unless their condition ends."""
        return {rule["name"] for rule in self.prometheus.rules() if rule["state"] != "inactive"}

    def _fires(self, alert: str, text: str) -> None:
        if alert not in self._seconds:
            cause, made = self._made[alert]
            self._seconds[alert] = time.time() - made
            self._table.append(Fired(alert, cause, self._seconds[alert], text))


@pytest.fixture
def watch(watched: Release, fired: list[Fired]) -> Watch:
    return Watch(watched, fired)


def test_none_without_a_cause(watched: Release, record: Record) -> None:
    prometheus = Prometheus(watched)
    prometheus.wait_until_it_watches()
    with SearchLoad(watched, GALLERY) as load:
        finished(watched, push(watched, "pushed-in-silence"))
        time.sleep(SILENT_S)
    record.load(load)
    alerts = f'ALERTS{{namespace="{watched.cluster.namespace}",alertstate="firing"}}'
    assert prometheus.query(f"last_over_time({alerts}[{SILENT_S}s])") == []


@contextmanager
def slow_embedder(release: Release) -> Iterator[None]:
    """It has a twentieth of a processor left, and refuses what it cannot take."""
    release.upgrade(embedder={"settings": {"EMBEDDER_MAX_QUEUE": 2}})
    release.wait_until_ready()
    cpu = {"requests": {"cpu": "50m"}, "limits": {"cpu": "50m"}}
    patch = json.dumps({"spec": {"containers": [{"name": "embedder", "resources": cpu}]}})
    pod = release.pod_of("embedder")
    with SearchLoad(release, GALLERY):
        release.cluster.kubectl("patch", "pod", pod, "--subresource=resize", "-p", patch)
        yield
        release.upgrade()
        release.wait_until_ready()


@contextmanager
def crash_looping_query(release: Release) -> Iterator[None]:
    """An upgrade with a wrong setting: the old pod goes on beside the new one."""
    query = f"deployment/{release.name}-query"
    release.cluster.kubectl("set", "env", query, "QUERY_TIMEOUT_S=0")
    yield
    release.cluster.kubectl("rollout", "undo", query)
    release.cluster.rolled_out(query)


@contextmanager
def no_room_for_an_embedder(release: Release) -> Iterator[None]:
    """A second one is asked for, and the namespace may not have more pods."""
    cluster = release.cluster
    running = cluster.get("pods", "--field-selector=status.phase==Running")["items"]
    # One that ends would leave its room to the second embedder.
    stay = [pod for pod in running if "deletionTimestamp" not in pod["metadata"]]
    cluster.kubectl("create", "quota", "full", f"--hard=pods={len(stay)}")
    wait_for(lambda: "hard" in cluster.get("quota/full")["status"], "the quota holds")
    scale(release, "embedder", 2)
    yield
    cluster.kubectl("delete", "quota", "full")
    scale(release, "embedder", 1)


@contextmanager
def no_indexer(release: Release) -> Iterator[None]:
    scale(release, "indexer", 0)
    yield
    scale(release, "indexer", 1)


def scale(release: Release, part: str, replicas: int) -> None:
    name = f"deployment/{release.name}-{part}"
    release.cluster.kubectl("scale", name, f"--replicas={replicas}")


def test_what_goes_wrong_for_a_quarter_of_an_hour(watched: Release, watch: Watch) -> None:
    watched.cluster.kubectl("exec", client_pod.NAME, "--", "sh", "-c", BROKEN_IMAGE)
    watch.made("a text pushed as an image", "PasserbyDeadLetters")
    # Before its indexer goes: what no scrape has seen of a pod is not known of it.
    watch.until_all_fire()
    with ExitStack() as causes:
        causes.enter_context(slow_embedder(watched))
        watch.made("0.05 CPU for the embedder", "PasserbySearchesSlow")
        watch.made("EMBEDDER_MAX_QUEUE=2, three clients", "PasserbyEmbedderFull")
        causes.enter_context(no_indexer(watched))
        watch.made("indexer scaled to 0", "PasserbyIngestionStands")
        causes.enter_context(crash_looping_query(watched))
        watch.made("upgrade to QUERY_TIMEOUT_S=0", "PasserbyDown")
        causes.enter_context(no_room_for_an_embedder(watched))
        watch.made("embedder scaled to 2, quota full", "PasserbyPodsMissing")
        # A search that takes ten seconds is one that fails.
        watch.until_all_fire(also=frozenset({"PasserbySearchesFail"}))
    watched.wait_until_ready()


def test_an_embedder_that_dies_again_and_again(watched: Release, watch: Watch) -> None:
    killed = 0.0

    def kill() -> None:
        nonlocal killed
        if time.monotonic() - killed > 10:
            pod = watched.pod_of("embedder")
            watched.cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
            killed = time.monotonic()

    with SearchLoad(watched, GALLERY):
        watch.made("embedder killed every ten seconds", "PasserbySearchesFail")
        # Those that wait for the next embedder are answered late.
        watch.until_all_fire(meanwhile=kill, also=frozenset({"PasserbySearchesSlow"}))
    watched.wait_until_ready()
    searched(watched, GALLERY)


def test_milvus_is_away(watched: Release, watch: Watch) -> None:
    scale(watched, "milvus-standalone", 0)
    watch.made("Milvus scaled to 0", "PasserbyNotReady")
    watch.until_all_fire()
    scale(watched, "milvus-standalone", 1)
    watched.wait_until_ready()
    searched(watched, GALLERY)


def test_every_alert_was_seen_and_ended(watched: Release, fired: list[Fired]) -> None:
    prometheus = Prometheus(watched)
    assert {rule["name"] for rule in prometheus.rules()} == {one.alert for one in fired}
    with SearchLoad(watched, GALLERY):
        wait_for(lambda: set(prometheus.firing()) <= STAYS, "all is well again", ENDS_WITHIN_S)
