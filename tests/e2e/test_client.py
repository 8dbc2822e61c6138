"""The Python client and the command line at running services."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from redis import Redis

from deploy.local.stack import Stack
from passerby import Client, Filter, Image, Refused, Unavailable
from passerby.cli import main
from passerby.client import TIMEOUT_S
from passerby.contract import INGEST_STREAM, MAX_FILENAMES
from tests.support.processes import free_port
from tests.support.stack import People, passerby, wait_until_indexed

MORNING = datetime(2026, 5, 1, 8, tzinfo=UTC)
EVENING = datetime(2026, 5, 1, 20, tzinfo=UTC)


@pytest.fixture
def small(client: Client, people: People, gallery: str) -> str:
    """Three images that differ in camera, time and tags."""
    images = [
        Image("1.jpg", people.image(0), camera="gate", captured_at=MORNING, tags={"floor": "1"}),
        Image("2.jpg", people.image(1), camera="gate", captured_at=EVENING, tags={"floor": "2"}),
        Image("3.jpg", people.image(2), camera='say "hall"'),
    ]
    progress = client.push(images, gallery=gallery)
    assert (progress.queued, progress.searchable, progress.failures) == (3, 3, ())
    return gallery


def found(client: Client, gallery: str, where: Filter) -> set[str]:
    return {hit.filename for hit in client.search("a person", gallery=gallery, where=where)}


def test_a_pushed_image_is_found_with_its_metadata(client: Client, small: str) -> None:
    hits = client.search("a person", gallery=small, explain=True)
    assert {hit.filename for hit in hits} == {"1.jpg", "2.jpg", "3.jpg"}
    first = next(hit for hit in hits if hit.filename == "1.jpg")
    assert (first.camera, first.captured_at, first.tags) == ("gate", MORNING, {"floor": "1"})
    assert hits == sorted(hits, key=lambda hit: -hit.score)
    assert hits.model
    assert hits.explanation is not None
    assert hits.took >= hits.explanation.search_took
    assert client.gallery(small).count == 3


def test_paging_through_a_gallery_shows_all_of_it(client: Client, people_gallery: str) -> None:
    pages = [
        client.search("a person", gallery=people_gallery, top_k=100, offset=offset)
        for offset in range(0, 1000, 100)
    ]
    assert [len(page) for page in pages] == [100] * 10
    assert len({hit.filename for page in pages for hit in page}) == 1000


def test_filters_select_by_camera_time_and_tags(client: Client, small: str) -> None:
    assert found(client, small, Filter(cameras=["gate"])) == {"1.jpg", "2.jpg"}
    assert found(client, small, Filter(cameras=['say "hall"'])) == {"3.jpg"}
    assert found(client, small, Filter(captured_from=EVENING)) == {"2.jpg"}
    assert found(client, small, Filter(captured_to=EVENING)) == {"1.jpg"}
    assert found(client, small, Filter(tags={"floor": "2"})) == {"2.jpg"}
    assert found(client, small, Filter(cameras=["gate"], tags={"floor": "3"})) == set()


def test_pages_of_a_search_are_its_whole(client: Client, small: str) -> None:
    whole = client.search("a person", gallery=small)
    pages = [client.search("a person", gallery=small, top_k=1, offset=i) for i in range(4)]
    assert [hit for page in pages for hit in page] == whole


def test_refused_carries_the_services_message_and_code(client: Client, people_gallery: str) -> None:
    with pytest.raises(Refused, match="no-such-gallery") as refused:
        client.search("a person", gallery="no-such-gallery")
    assert refused.value.code == "NOT_FOUND"
    with pytest.raises(Refused, match="top_k") as refused:
        client.search("a person", gallery=people_gallery, top_k=0)
    assert refused.value.code == "INVALID_ARGUMENT"


def test_an_image_that_is_too_large_for_a_message_is_refused(
    client: Client, people_gallery: str
) -> None:
    """Not Unavailable: it would be too large later as well."""
    with pytest.raises(Refused, match="larger than max"):
        client.search(image=b"x" * (65 * 1024 * 1024), gallery=people_gallery)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a query service that takes every search and never answers."""
    end = threading.Event()

    def search(request: bytes, context: grpc.ServicerContext) -> bytes:
        end.wait()
        return b""

    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Search": grpc.unary_unary_rpc_method_handler(search)
    }
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("passerby.v1.Search", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    end.set()
    server.stop(None).wait()


def test_a_search_without_an_answer_ends_at_the_clients_deadline(silent: str) -> None:
    start = time.monotonic()
    with Client(query=silent, timeout_s=0.5) as client, pytest.raises(Unavailable, match=silent):
        client.search("a person")
    assert 0.5 <= time.monotonic() - start < TIMEOUT_S / 2, "not at the deadline that was given"


def test_a_query_service_that_is_down_is_named_with_the_variable_to_set() -> None:
    with (
        Client(query=f"127.0.0.1:{free_port()}") as client,
        pytest.raises(Unavailable, match=r"cannot be reached.*PASSERBY_QUERY"),
    ):
        client.galleries()


def test_the_command_line_finds_what_the_client_finds(
    stack: Stack, client: Client, small: str, people: People
) -> None:
    expected = [hit.filename for hit in client.search("a person", gallery=small)]
    shown = passerby(stack, "search", "--gallery", small, "a person")
    lines = shown.splitlines()[1:]
    assert [next(name for name in expected if name in line) for line in lines] == expected
    hits = json.loads(passerby(stack, "search", "--gallery", small, "--json", "a person"))
    assert [hit["filename"] for hit in hits] == expected
    first = next(hit for hit in hits if hit["filename"] == "1.jpg")
    assert first["captured_at"] == "2026-05-01T08:00:00+00:00"
    assert first["tags"] == {"floor": "1"}

    file = people.folder / "imgs" / str(people.records[1]["file_path"])
    by_image = ("search", "--image", str(file), "--gallery", small, "--top-k", "1", "--json")
    assert [hit["filename"] for hit in json.loads(passerby(stack, *by_image))] == ["2.jpg"]
    alike = json.loads(passerby(stack, "search", "--like", "1.jpg", "--gallery", small, "--json"))
    assert {hit["filename"] for hit in alike} == {"2.jpg", "3.jpg"}
    evening = ("--since", "2026-05-01T22:00:00+02:00", "--camera", "gate", "--tag", "floor=2")
    only = passerby(stack, "search", "--gallery", small, *evening, "--explain", "a person xyzzy")
    assert "2.jpg" in only
    assert "1.jpg" not in only
    assert "xyzzy" in only


def test_status_shows_the_gallery_and_the_queue(stack: Stack, small: str) -> None:
    status = passerby(stack, "status")
    row = next(line for line in status.splitlines() if line.startswith(small))
    assert row.split()[1] == "3"
    assert "In the queue: 0 unfinished entries." in status


def test_deleting_by_name_and_by_filter(stack: Stack, client: Client, small: str) -> None:
    by_name = passerby(stack, "delete", "--gallery", small, "1.jpg", "not-there.jpg")
    assert "Deleted 1 of 2" in by_name
    assert "Deleted 1 " in passerby(
        stack, "delete", "--gallery", small, "--tag", "floor=2", "--yes"
    )
    assert [hit.filename for hit in client.search("a person", gallery=small)] == ["3.jpg"]


def test_more_names_than_a_request_holds_are_deleted(client: Client, small: str) -> None:
    names = [f"none-{number}.jpg" for number in range(MAX_FILENAMES)]
    assert client.delete(gallery=small, filenames=[*names, "1.jpg"]) == 1


def test_deleting_by_a_filter_asks_first(stack: Stack, client: Client, small: str) -> None:
    command = [str(Path(sys.executable).with_name("passerby")), "delete", "--gallery", small]
    done = subprocess.run(
        [*command, "--camera", "gate"],
        env={**os.environ, "PASSERBY_QUERY": stack.query},
        input="n\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "matches the filter?" in done.stdout
    assert client.gallery(small).count == 3


def test_deleting_a_gallery_asks_for_its_name(stack: Stack, client: Client, small: str) -> None:
    arguments = ["--query", stack.query, "delete", "--gallery", small, "--all"]
    other = CliRunner().invoke(main, arguments, input="yes\n")
    assert other.exit_code == 1
    assert f"'yes' is not {small}: nothing was deleted" in other.stderr
    assert client.gallery(small).count == 3
    done = CliRunner().invoke(main, arguments, input=f"{small}\n")
    assert done.exit_code == 0, done.output
    assert f"Deleted the gallery {small} with 3 images." in done.stdout
    assert small not in {gallery.name for gallery in client.galleries()}
    again = CliRunner().invoke(main, [*arguments, "--yes"])
    assert again.exit_code == 1
    assert f"there is no gallery '{small}'" in again.stderr


def test_a_dead_letter_is_indexed_by_a_retry_once_its_cause_is_fixed(
    stack: Stack, people: People, client: Client, redis: Redis, gallery: str
) -> None:
    late = stack.state / "allowed" / f"{gallery}.jpg"
    refused = client.push([Image("late.jpg", uri=late.as_uri())], gallery=gallery)
    assert (refused.queued, refused.searchable) == (1, 0)
    assert [failure.filename for failure in refused.failures] == ["late.jpg"]

    late.write_bytes(people.image(3))
    assert "Put 1 dead letters" in passerby(stack, "dead-letters", "--gallery", gallery, "--retry")
    wait_until_indexed(redis)
    assert [hit.filename for hit in client.search("a person", gallery=gallery)] == ["late.jpg"]
    assert "No dead letters" in passerby(stack, "dead-letters", "--gallery", gallery)
    assert client.gallery(gallery).dead_letters == 0
    assert redis.xlen(INGEST_STREAM) == 0
