"""The same over HTTP: protobuf's JSON, errors with a code and a message, images, probes."""

import base64
import io
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from PIL import Image

from tests.support.query import QueryService as Service
from tests.support.query import people

JSON = {"Content-Type": "application/json"}
PNG = b"\x89PNG\r\n\x1a\n and the rest"
HOSTILE_NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b//c/.",
    "new\nline\r\n\ttab",
    "名前/人.jpg",
    "%2e%2e%2f",
    "what?is#this&that=1;2+3 4",
    "back\\slash",
    "é" * 2048,
]


def test_a_search_takes_and_gives_json(service: Service, gallery: str) -> None:
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


def test_an_image_is_sent_in_base64(service: Service, gallery: str) -> None:
    service.fill(gallery, people(1))
    file = io.BytesIO()
    Image.new("RGB", (32, 64), "red").save(file, "PNG")
    body = {"gallery": gallery, "image": base64.b64encode(file.getvalue()).decode()}
    assert service.post("/v1/search", body)[0] == 200


def test_galleries_are_listed_and_deleted_from(service: Service, gallery: str) -> None:
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


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[1]", "JSON"),
        (b"[" * 100_000, "JSON"),
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
def test_a_wrong_body_is_refused_with_the_reason(service: Service, body: object, says: str) -> None:
    status, answer = service.post("/v1/search", body)
    assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")
    assert says in answer["message"]


def test_wrong_addresses_and_methods_are_json_errors(service: Service, gallery: str) -> None:
    def failure(path: str) -> tuple[int, str]:
        status, body, _ = service.get(path)
        answer = json.loads(body)
        assert answer["message"]
        return status, answer["code"]

    assert failure("/v1/nothing") == (404, "NOT_FOUND")
    assert failure("/v1/search") == (405, "UNIMPLEMENTED")
    assert failure(f"/v1/galleries/{gallery}") == (404, "NOT_FOUND")
    assert failure(f"/v1/images/{gallery}/x") == (404, "NOT_FOUND")
    assert failure("/v1/images/Not%20One/x") == (400, "INVALID_ARGUMENT")
    assert failure(f"/v1/images/{gallery}/%ff") == (400, "INVALID_ARGUMENT")
    assert failure("/page.py") == (404, "NOT_FOUND")
    assert failure("/..%2f__main__.py") == (404, "NOT_FOUND")


def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    status, answer = service.post("/v1/search", b"x" * (33 * 1024 * 1024))
    assert (status, answer["code"]) == (413, "INVALID_ARGUMENT")
    assert "larger than" in answer["message"]


def test_another_site_cannot_delete_through_somebodys_browser(
    service: Service, gallery: str
) -> None:
    service.fill(gallery, people(1))
    body = {"gallery": gallery, "filenames": ["0.jpg"]}
    # What a browser sends across sites without asking first.
    foreign = {"Origin": "http://elsewhere.example", "Content-Type": "text/plain"}
    assert service.post("/v1/delete", body, **foreign)[0] == 400
    status, _, headers = service.get("/v1/galleries", Origin="http://elsewhere.example")
    assert status == 200
    assert "Access-Control-Allow-Origin" not in headers
    assert service.post("/v1/delete", body, **JSON)[1] == {"deleted": "1"}


def test_a_website_under_this_machines_address_is_kept_out(service: Service, gallery: str) -> None:
    """It had its own name resolve to 127.0.0.1: to the browser all is of one origin."""
    service.fill(gallery, people(1))
    body = {"gallery": gallery, "filenames": ["0.jpg"]}
    for name in ("elsewhere.example:8080", "127.0.0.1.elsewhere.example", "[::1", "localhost\xff"):
        status, answer = service.post("/v1/delete", body, Host=name, **JSON)
        assert (status, answer["code"]) == (403, "PERMISSION_DENIED")
        assert service.get("/", Host=name)[0] == 403
    for name in ("localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080"):
        assert service.get("/", Host=name)[0] == 200


def test_a_large_body_is_parsed_beside_other_requests(service: Service, gallery: str) -> None:
    service.fill(gallery, people(1))
    body = {"gallery": gallery, "filename": "0.jpg", "filter": {"cameras": ["x" * 7] * 500_000}}
    with ThreadPoolExecutor() as pool:
        large = pool.submit(service.post, "/v1/search", body)
        longest, began = 0.0, time.monotonic()
        while not large.done():
            start = time.monotonic()
            assert service.get("/healthz")[0] == 200
            longest = max(longest, time.monotonic() - start)
        took = time.monotonic() - began
    status, answer = large.result()
    assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")
    assert "500000 cameras" in answer["message"]
    assert longest < took / 2, "one request waited for the other"
    assert "JSON" in service.post("/v1/search", b"[" * 100_000)[1]["message"]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: repr(name[:12]))
def test_a_kept_image_is_found_by_its_name_whatever_it_holds(
    service: Service, gallery: str, name: str
) -> None:
    (vector,) = people(1).values()
    service.fill(gallery, {name: vector}, images={name: PNG})
    # As browsers keep it: a segment of dots would be resolved before it is sent.
    status, body, headers = service.get(f"/v1/images/{gallery}/{quote(name, safe='')}")
    assert (status, body) == (200, PNG)
    assert headers["Content-Type"] == "image/png"
    # Slashes may stand as they are, for those who do not resolve dots.
    assert service.get(f"/v1/images/{gallery}/{quote(name)}")[:2] == (200, PNG)


def test_what_is_no_raster_image_is_never_shown_as_a_page(service: Service, gallery: str) -> None:
    rows = people(2)
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    service.fill(gallery, rows, images={"0.jpg": svg, "1.jpg": PNG})
    _, body, headers = service.get(f"/v1/images/{gallery}/0.jpg")
    assert body == svg
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == "attachment"
    for path in ("0.jpg", "1.jpg", "none.jpg"):
        headers = service.get(f"/v1/images/{gallery}/{path}")[2]
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert (
        "default-src 'none'"
        in service.get(f"/v1/images/{gallery}/1.jpg")[2]["Content-Security-Policy"]
    )


def test_an_image_that_the_browser_has_is_not_sent_again(service: Service, gallery: str) -> None:
    service.fill(gallery, people(1), images={"0.jpg": PNG})
    path = f"/v1/images/{gallery}/0.jpg"
    etag = service.get(path)[2]["ETag"]
    assert service.get(path, **{"If-None-Match": etag})[:2] == (304, b"")
    service.fill(gallery, people(1), images={"0.jpg": PNG + b"!"})
    assert service.get(path, **{"If-None-Match": etag})[:2] == (200, PNG + b"!")


def test_probes_and_measurements(service: Service) -> None:
    assert service.get("/healthz")[0] == 200
    status, body, _ = service.get("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "problems": {}})
    status, body, headers = service.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"passerby_http_seconds" in body


def test_the_page_runs_nothing_from_elsewhere(service: Service) -> None:
    status, body, headers = service.get("/")
    assert status == 200
    assert headers["Content-Type"] == "text/html"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"//" not in body.replace(b"<!--", b"")
    for file, kind in (("page.css", "css"), ("page.js", "javascript"), ("icon.svg", "svg")):
        status, _, headers = service.get(f"/{file}")
        assert status == 200
        assert kind in headers["Content-Type"]


def test_half_a_request_holds_nobody_up(service: Service) -> None:
    host, port = service.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert service.get("/healthz")[0] == 200
