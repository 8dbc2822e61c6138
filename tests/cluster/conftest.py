"""The scenarios' cluster, releases that several of them share, and their table at the end."""

import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster.kubernetes import namespace
from tests.cluster.machine import programs
from tests.cluster.machine.cluster import Machine
from tests.cluster.machine.extras import OUTSIDE
from tests.cluster.machine.layout import NAME, Layout
from tests.cluster.machine.shell import run
from tests.cluster.people import People, finished, push, store
from tests.cluster.prometheus import MONITORED
from tests.cluster.records import FIRED, RECORDS, Fired, Record, alerts_table, table
from tests.cluster.release import LITTLE, TWO_OF_EACH, Release
from tests.support.chart import merged

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.cluster)
            # A marker that is added here would go before one of the file.
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.outcome != "passed":
        item.stash[_OUTCOME] = report.outcome
    return report


_OUTCOME = pytest.StashKey[str]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if records := config.stash.get(RECORDS, []):
        terminalreporter.section("scenarios")
        for line in table(records):
            terminalreporter.write_line(line)
    if fired := config.stash.get(FIRED, []):
        terminalreporter.section("alerts")
        for line in alerts_table(fired):
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def record(request: pytest.FixtureRequest) -> Iterator[Record]:
    """The scenario's row of the table."""
    record = Record(request.node.name.removeprefix("test_").replace("_", " "))
    request.config.stash.setdefault(RECORDS, []).append(record)
    start = time.monotonic()
    yield record
    record.seconds = record.seconds or time.monotonic() - start
    record.outcome = request.node.stash.get(_OUTCOME, "error")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People.draw(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session")
def pair(people: People) -> Iterator[Release]:
    """Two embedders, two queries, images that both nodes can mount, and the people in it."""
    with namespace("pair") as cluster:
        release = Release(cluster, values=TWO_OF_EACH)
        release.install()
        release.wait_until_ready()
        store(people, release)
        finished(release, push(release))
        yield release


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The cluster, where it is one on this machine, to do to its nodes what nobody else could."""
    layout = Layout(NAME)
    if os.environ.get("KUBECONFIG") != str(layout.kubeconfig("admin")):
        pytest.skip("nodes are only killed on a cluster of this machine")
    return Machine(layout, programs.CLUSTER.folder)


@pytest.fixture(scope="session")
def monitoring(machine: Machine) -> None:
    _add("monitoring")


@pytest.fixture(scope="session")
def watched(people: People, monitoring: None) -> Iterator[Release]:
    """One of each, the people in it, and a Prometheus that watches it."""
    with namespace("watched") as cluster:
        release = Release(cluster, values=merged(LITTLE, MONITORED))
        release.install()
        release.wait_until_ready()
        store(people, release)
        finished(release, push(release))
        yield release


def _add(extra: str) -> None:
    """What only some scenarios need. Building it needs a way out of the cluster's network."""
    command = [sys.executable, "-m", "tests.cluster", "add", extra]
    run("nsenter", f"--net={os.environ[OUTSIDE]}", *command)


@pytest.fixture(scope="session")
def fired(request: pytest.FixtureRequest) -> list[Fired]:
    """Rows of the alerts' table."""
    return request.config.stash.setdefault(FIRED, [])
