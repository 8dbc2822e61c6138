"""The page's files and kept images: names that hold anything, and nothing that runs elsewhere."""

import re
from urllib.parse import quote

import pytest

from tests.support.hostile import FILENAMES
from tests.support.query import QueryService, people

PNG = b"\x89PNG\r\n\x1a\n and the rest"


@pytest.mark.parametrize("name", FILENAMES, ids=lambda name: repr(name[:12]))
def test_a_kept_image_is_found_by_any_name(service: QueryService, gallery: str, name: str) -> None:
    (vector,) = people(1).values()
    service.fill(gallery, {name: vector}, images={name: PNG})
    # As browsers keep it: a segment of dots would be resolved before it is sent.
    status, body, headers = service.get(f"/v1/images/{gallery}/{quote(name, safe='')}")
    assert (status, body) == (200, PNG)
    assert headers["Content-Type"] == "image/png"
    # Slashes may stand as they are, for those who do not resolve dots.
    assert service.get(f"/v1/images/{gallery}/{quote(name)}")[:2] == (200, PNG)


def test_a_kept_file_that_is_not_a_raster_image_is_a_download(
    service: QueryService, gallery: str
) -> None:
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


def test_a_kept_image_that_the_browser_has_is_not_sent_again(
    service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(1), images={"0.jpg": PNG})
    path = f"/v1/images/{gallery}/0.jpg"
    etag = service.get(path)[2]["ETag"]
    assert service.get(path, **{"If-None-Match": etag})[:2] == (304, b"")
    service.fill(gallery, people(1), images={"0.jpg": PNG + b"!"})
    assert service.get(path, **{"If-None-Match": etag})[:2] == (200, PNG + b"!")


def test_the_page_runs_nothing_from_elsewhere(service: QueryService) -> None:
    status, body, headers = service.get("/")
    assert status == 200
    assert headers["Content-Type"] == "text/html"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"//" not in body.replace(b"<!--", b"")
    assert b'href="/v1/openapi.json"' in body
    files = set(re.findall(r'(?:href|src)="/(\w+\.\w+)"', body.decode()))
    assert {"page.css", "page.js", "icon.svg"} <= files
    kinds = {"css": "css", "js": "javascript", "svg": "svg"}
    for file in files:
        status, _, headers = service.get(f"/{file}")
        assert status == 200
        assert kinds[file.rpartition(".")[2]] in headers["Content-Type"]
