"""The profile laptop-cpu from `helm install` to a search, and taken away and put back again."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from passerby.client import CONNECT_TIMEOUT_VARIABLE
from passerby.contract import DEFAULT_TOP_K
from tests.cluster import people as drawn
from tests.cluster.client_pod import NAME as CLIENT
from tests.cluster.kubernetes import namespace
from tests.cluster.machine.shell import run
from tests.cluster.people import GALLERY, People
from tests.cluster.records import Record
from tests.cluster.release import COMMAND_LINE, Release


@dataclass(frozen=True)
class Installation:
    """A release as the guide installs it, and how long that took."""

    release: Release
    ready_s: float
    """Until every rollout had ended."""
    found_s: float
    """Until `helm test` had found what it had pushed."""
    test_said: str


@pytest.fixture(scope="module")
def laptop() -> Iterator[Installation]:
    with namespace("laptop") as cluster:
        release = Release(cluster)
        start = time.monotonic()
        release.install()
        release.wait_until_ready()
        ready_s = time.monotonic() - start
        said = release.test()
        yield Installation(release, ready_s, time.monotonic() - start, said)


@pytest.fixture(scope="module")
def filled(laptop: Installation, people: People) -> Release:
    drawn.store(people, laptop.release)
    drawn.finished(laptop.release, drawn.push(laptop.release))
    return laptop.release


def test_install_until_a_search_finds_something(laptop: Installation, record: Record) -> None:
    record.seconds = laptop.found_s
    record.note = f"ready after {laptop.ready_s:.0f} s"
    assert "search: 3 hits by image, 3 by caption" in laptop.test_said


def test_doctor_finds_nothing(laptop: Installation) -> None:
    code, said = laptop.release.doctor()
    assert (code, said.splitlines()[-1]) == (0, "All checks passed."), said


def test_a_push_job_makes_every_image_searchable(
    filled: Release, people: People, record: Record
) -> None:
    held = filled.held(GALLERY)
    record.held(held, people.filenames)
    assert held.rows == len(people.filenames)
    assert (held.lost(people.filenames), held.double) == (0, 0)


def test_search_from_a_pod(filled: Release) -> None:
    command = ["passerby", "search", "--gallery", GALLERY, "--json", "a man in a red jacket"]
    answer = filled.cluster.kubectl("exec", CLIENT, "--", *command)
    assert len(json.loads(answer)) == DEFAULT_TOP_K


def test_search_through_a_port_forward(filled: Release) -> None:
    with filled.cluster.forwarded("passerby-query", 8080, 50052):
        with urllib.request.urlopen("http://127.0.0.1:8080/") as page:
            assert b"<title>" in page.read()
        search = [COMMAND_LINE, "search", "--gallery", GALLERY, "--json", "a man in a red jacket"]
        # The way through the API server and the kubelet may take seconds to open.
        answer = run(*search, env={CONNECT_TIMEOUT_VARIABLE: "15"})
        (first, *_) = json.loads(answer)
        url = f"http://127.0.0.1:8080/v1/images/{GALLERY}/{first['filename']}"
        with urllib.request.urlopen(url) as image:
            assert image.read(3) in (b"\xff\xd8\xff", b"\x89PN")


def test_uninstall_and_install_again(filled: Release, people: People, record: Record) -> None:
    """The second takes back what the first keeps."""
    before = filled.held(GALLERY), filled.ten_searches(GALLERY)
    filled.cluster.helm("uninstall", filled.name, "--wait")
    start = time.monotonic()
    filled.install()
    filled.wait_until_ready()
    held = filled.held(GALLERY)
    record.note = f"the same again after {time.monotonic() - start:.0f} s"
    record.held(held, people.filenames)
    assert (held.rows, set(held.filenames)) == (before[0].rows, set(before[0].filenames))
    assert filled.ten_searches(GALLERY) == before[1]
