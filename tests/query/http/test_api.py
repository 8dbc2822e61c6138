"""The Search service as JSON: what goes in and out, and wrong bodies refused with the reason."""

import base64
import io
import json
import re
import socket
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image
from redis import Redis

from passerby.contract import DEAD_LETTER_COUNTS
from services.query.galleries import LISTED
from tests.support.query import QueryService, people

LISTED_AT_MOST = int(LISTED.value)


def test_a_search_takes_and_gives_json(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(3), captured_at_us=1_700_000_000_000_000, tags={"floor": "1"})
    body = {"gallery": gallery, "filename": "0.jpg", "topK": 1, "filter": {"tags": {"floor": "1"}}}
    status, answer = service.post("/v1/search", body)
    assert status == 200
    (hit,) = answer["hits"]
    assert hit["filename"] == "1.jpg"
    assert hit["capturedAt"] == "2023-11-14T22:13:20Z"
    assert answer["model"] == service.version
    # The names of the contract are accepted as well; JSON's are what comes back.
    body = {"gallery": gallery, "filename": "0.jpg", "top_k": 2}
    assert len(service.post("/v1/search", body)[1]["hits"]) == 2
    body = {"gallery": gallery, "filename": "0.jpg", "offset": 10}
    assert service.post("/v1/search", body)[1]["hits"] == []


def picture(file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 64), "red").save(file, file_format, **options)
    return file.getvalue()


def test_a_small_image_may_be_sent_in_base64(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(1))
    body = {"gallery": gallery, "image": base64.b64encode(picture()).decode()}
    assert service.post("/v1/search", body)[0] == 200


def test_an_image_may_be_the_body_itself(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(3), camera="gate")
    fields = {"topK": "2", "filter": '{"cameras": ["gate"]}', "explain": "true"}
    address = "/v1/search?" + urlencode({"gallery": gallery, **fields})
    jpeg = {"Content-Type": "image/jpeg"}
    status, answer = service.post(address, picture(), **jpeg)
    assert status == 200
    assert len(answer["hits"]) == 2
    assert "gate" in answer["explanation"]["expression"]
    for wrong, says in (
        ("topK=many", "topK: 'many' in the address is not JSON"),
        ("topK=0", "top_k: 0"),
        ("caption=a", "'caption' in the address is not one of gallery, topK"),
        ("filter=[" + "[" * 9000, "filter"),
    ):
        status, answer = service.post("/v1/search?" + wrong, picture(), **jpeg)
        assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")
        assert says in answer["message"]
    status, answer = service.post(f"/v1/search?gallery={gallery}", b"", **jpeg)
    assert (status, answer["message"][:16]) == (400, "image: is empty;")


def test_galleries_are_listed_and_deleted_from(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(2))
    status, body, _ = service.get("/v1/galleries")
    assert status == 200
    listed = {state["gallery"]: state for state in json.loads(body)["galleries"]}
    assert listed[gallery]["count"] == "2"
    assert service.post("/v1/delete", {"gallery": gallery, "filenames": ["0.jpg"]}) == (
        200,
        {"deleted": "1"},
    )
    assert json.loads(service.get(f"/v1/galleries/{gallery}")[1])["count"] == "1"


def test_a_gallery_whose_model_is_not_served_is_a_conflict(
    service: QueryService, other_model: QueryService, gallery: str
) -> None:
    other_model.fill(gallery, people(1))
    status, answer = service.post("/v1/search", {"gallery": gallery, "caption": "a man"})
    assert (status, answer["code"]) == (409, "FAILED_PRECONDITION")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[1]", "JSON"),
        (b"[" * 65_536, "JSON"),
        (b'{"a":' * 13_000, "JSON"),
        (b"9" * 65_536, "JSON"),
        ({"caption": "a man", "top": 1}, '"top"'),
        ({"caption": "a man", "topK": "many"}, "topK"),
        ({"caption": "a man", "filename": "x"}, "oneof"),
        ({"caption": "a man", "topK": 0}, "top_k: 0"),
        ({"caption": "a man", "filter": {"capturedFrom": "yesterday"}}, "capturedFrom"),
        ({"caption": "a man", "gallery": "No Gallery"}, "gallery"),
        ({"image": "%%%"}, "image"),
        ({}, "caption"),
    ],
    ids=repr,
)
def test_a_wrong_body_is_rejected_with_the_reason(
    service: QueryService, body: object, says: str
) -> None:
    status, answer = service.post("/v1/search", body)
    assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")
    assert says in answer["message"]


def test_half_a_request_delays_no_other(service: QueryService) -> None:
    host, port = service.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert service.get("/healthz")[0] == 200


def questions(service: QueryService) -> int:
    """How often Milvus was asked for one gallery or another."""
    metrics = service.ask_private("/metrics")[1].decode()
    found = re.findall(
        r'^passerby_store_seconds_count{call="(?:find|count)",store="milvus"} (\S+)$',
        metrics,
        re.MULTILINE,
    )
    return sum(int(float(count)) for count in found)


def test_names_among_the_rejected_are_listed_without_asking_milvus(
    service: QueryService, gallery: str
) -> None:
    """Whoever may push makes as many of them as they like."""
    service.fill(gallery, people(1))
    names = [f"{gallery[:50]}-rejected-{number}" for number in range(LISTED_AT_MOST + 1)]
    with Redis.from_url(service.environment["REDIS_URL"]) as redis:
        redis.hset(DEAD_LETTER_COUNTS, mapping=dict.fromkeys([gallery, *names], 3))
        before = questions(service)
        listed = json.loads(service.get("/v1/galleries")[1])["galleries"]
        redis.hdel(DEAD_LETTER_COUNTS, gallery, *names)
    states = {state["gallery"]: state for state in listed}
    assert len(states.keys() & set(names)) == LISTED_AT_MOST
    assert states[names[0]] | {"pending": "0"} == {
        "gallery": names[0],
        "count": "0",
        "model": "",
        "pending": "0",
        "deadLetters": "3",
    }
    assert (states[gallery]["count"], states[gallery]["deadLetters"]) == ("1", "3")
    assert [*states] == sorted(states)
    assert questions(service) - before <= 2 * (len(listed) - LISTED_AT_MOST)
