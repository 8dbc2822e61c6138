"""What is pushed is found, once, in its gallery, and stays there."""

import base64
import json
import subprocess
from pathlib import Path

from redis import Redis

from deploy.local.stack import Stack
from passerby import Client
from passerby.contract import INGEST_STREAM
from tests.support.processes import wait_until
from tests.support.stack import (
    People,
    dead_letters,
    enqueue,
    make_stack,
    passerby,
    wait_until_indexed,
)
from tests.support.stores import REDIS_CLI, milvus_client


def rows_in_milvus(stack: Stack, gallery: str) -> int:
    client = milvus_client(stack.milvus_uri)
    try:
        alias = f"gallery_{gallery.replace('-', '_')}"
        answer = client.query(
            alias, filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(answer[0]["count(*)"])
    finally:
        client.close()


def names_in_redis(redis: Redis, gallery: str) -> int:
    keys = redis.scan_iter(f"passerby:names:{gallery}:*", count=10_000)
    return sum(redis.hlen(key) for key in keys)


def test_pushing_a_data_set_again_changes_nothing(
    stack: Stack, people: People, redis: Redis, gallery: str, tmp_path: Path
) -> None:
    data_set = people.data_set(tmp_path, people.records[:200])
    for _ in range(2):
        passerby(stack, "push", str(data_set), "--gallery", gallery)
        assert rows_in_milvus(stack, gallery) == names_in_redis(redis, gallery) == 200


def test_a_batch_pushed_by_hand_as_json_is_found(
    stack: Stack, people: People, client: Client, redis: Redis, gallery: str
) -> None:
    batch = {
        "gallery": gallery,
        "images": [
            {
                "filename": "gate/1.jpg",
                "data": base64.b64encode(people.image(0)).decode(),
                "camera": "gate",
                "capturedAt": "2026-05-01T12:00:00Z",
                "tags": {"floor": "1"},
            }
        ],
    }
    command = [str(REDIS_CLI), "-p", str(stack.ports.redis), "XADD", INGEST_STREAM, "*"]
    subprocess.run([*command, "json", json.dumps(batch)], check=True, capture_output=True)
    wait_until_indexed(redis)
    (hit,) = client.search("somebody in a coat", gallery=gallery)
    assert hit.filename == "gate/1.jpg"
    assert hit.camera == "gate"
    assert hit.tags == {"floor": "1"}


def test_an_image_finds_itself_and_its_person_first(
    people: People, people_gallery: str, client: Client
) -> None:
    record = people.records[3]
    hits = client.search(image=people.image(3), gallery=people_gallery, top_k=3)
    assert hits[0].filename == record["file_path"]
    assert hits[0].score > 0.999


def test_galleries_do_not_see_each_others_people(
    people: People, client: Client, redis: Redis, gallery: str
) -> None:
    left, right = f"{gallery[:60]}-l", f"{gallery[:60]}-r"
    enqueue(redis, left, {f"left/{i}.jpg": people.image(i) for i in range(20)})
    enqueue(redis, right, {f"right/{i}.jpg": people.image(i) for i in range(15)})
    wait_until_indexed(redis)
    caption = people.records[0]["captions"][0]
    in_left = {hit.filename for hit in client.search(caption, gallery=left, top_k=100)}
    in_right = {hit.filename for hit in client.search(caption, gallery=right, top_k=100)}
    assert in_left == {f"left/{i}.jpg" for i in range(20)}
    assert in_right == {f"right/{i}.jpg" for i in range(15)}
    assert client.delete(gallery=left, filenames=["left/0.jpg", "right/0.jpg"]) == 1
    assert len(client.search(caption, gallery=right, top_k=100)) == 15


def test_a_uri_outside_the_allowed_roots_is_never_read(
    stack: Stack, people: People, client: Client, redis: Redis, gallery: str
) -> None:
    allowed = stack.state / "allowed" / "1.jpg"
    allowed.write_bytes(people.image(1))
    secret = stack.state / "secret.jpg"
    secret.write_bytes(people.image(2))
    images = [
        {"filename": "allowed", "uri": allowed.as_uri()},
        {"filename": "outside", "uri": secret.as_uri()},
        {"filename": "above", "uri": f"{allowed.parent.as_uri()}/../secret.jpg"},
    ]
    redis.xadd(INGEST_STREAM, {"json": json.dumps({"gallery": gallery, "images": images})})
    wait_until_indexed(redis)
    assert [hit.filename for hit in client.search("a person", gallery=gallery)] == ["allowed"]
    letters = dead_letters(redis, gallery)
    assert set(letters) == {"outside", "above"}
    assert all("not allowed" in reason for reason in letters.values())


def test_stopping_and_starting_the_stack_loses_nothing(people: People, tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    stack.up()
    try:
        with Redis.from_url(stack.redis_url) as redis:
            for start in range(0, 200, 10):
                batch = {f"{i}.jpg": people.image(i) for i in range(start, start + 10)}
                enqueue(redis, "kept", batch)
            # Some of it is in the gallery then, some in hand, and some still in the queue.
            wait_until(lambda: redis.xlen(INGEST_STREAM) < 20, "the first batch in the gallery")
        stack.down()
        stack.up()
        with (
            Redis.from_url(stack.redis_url) as redis,
            Client(query=stack.query, redis_url=stack.redis_url) as client,
        ):
            wait_until_indexed(redis)
            found = client.search("a person", gallery="kept", top_k=500)
            assert {hit.filename for hit in found} == {f"{i}.jpg" for i in range(200)}
            stack.down()
            stack.up()
            again = client.search("a person", gallery="kept", top_k=500)
            assert [hit.filename for hit in again] == [hit.filename for hit in found]
    finally:
        stack.down()
