"""A uri is read below the operator's roots and nowhere else, however it is written."""

import asyncio
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.indexer.entries import InvalidImageEntry
from services.indexer.sources import READS_AT_ONCE, ReadBudget, Sources
from services.runtime.errors import Unavailable
from tests.support.processes import free_port


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ is allowed; images-secret/ and secret.jpg beside it are not."""
    disk = tmp_path_factory.mktemp("disk")
    (disk / "images" / "inner folder").mkdir(parents=True)
    (disk / "images-secret").mkdir()
    (disk / "images" / "a.jpg").write_bytes(b"a")
    (disk / "images" / "inner folder" / "ü 100%.jpg").write_bytes(b"inner")
    (disk / "images" / "%61.jpg").write_bytes(b"literal")
    (disk / "images-secret" / "b.jpg").write_bytes(b"secret")
    (disk / "secret.jpg").write_bytes(b"secret")
    (disk / "images" / "inside").symlink_to(disk / "images" / "a.jpg")
    (disk / "images" / "outside").symlink_to(disk / "secret.jpg")
    (disk / "images" / "up").symlink_to(disk)
    (disk / "images" / "loop").symlink_to(disk / "images" / "loop")
    os.mkfifo(disk / "images" / "pipe")
    return disk


@pytest.fixture(scope="module")
def sources(disk: Path) -> Sources:
    return Sources([str(disk / "images")], max_bytes=100)


async def test_what_lies_below_the_root_is_read(sources: Sources, disk: Path) -> None:
    images = disk / "images"
    inner = images / "inner folder" / "ü 100%.jpg"
    assert await sources.read((images / "a.jpg").as_uri()) == b"a"
    assert await sources.read(str(images / "a.jpg")) == b"a"
    assert await sources.read(inner.as_uri()) == b"inner"
    assert await sources.read(str(inner)) == b"inner"
    assert await sources.read((images / "%61.jpg").as_uri()) == b"literal"
    assert await sources.read(f"FILE://localhost{images}/inside") == b"a"
    assert await sources.read(f"{images}/inner folder/../a.jpg") == b"a"


@pytest.mark.parametrize(
    "uri",
    [
        "file://{disk}/secret.jpg",
        "{disk}/secret.jpg",
        "file://{disk}/images/../secret.jpg",
        "file://{disk}/images/%2e%2e/secret.jpg",
        "file://{disk}/images%2F..%2Fsecret.jpg",
        "{disk}/images-secret/b.jpg",
        "{disk}/images/outside",
        "{disk}/images/up/secret.jpg",
        "{disk}/images",
        "file://elsewhere{disk}/images/a.jpg",
        "images/a.jpg",
        "",
        "file://",
        "/dev/stdin",
        "local://{disk}/secret.jpg",
        "http://127.0.0.1/images/a.jpg",
        "s3://{disk}/images/a.jpg",
        "simplecache::file://{disk}/secret.jpg",
        "{disk}/images/a.jpg::file://{disk}/secret.jpg",
        "zip://a.jpg::file://{disk}/images/a.zip",
        "{disk}/images/a.jpg\0",
        "memory://{disk}/images/a.jpg",
        "data:image/png;base64,AAAA",
        "file://[cam1]/a.jpg",
        "file://[cam1{disk}/images/a.jpg",
    ],
)
async def test_everything_else_is_not_allowed(sources: Sources, disk: Path, uri: str) -> None:
    with pytest.raises(InvalidImageEntry, match=r"not allowed.*INDEXER_ALLOWED_ROOTS"):
        await sources.read(uri.format(disk=disk))


PIECES = st.sampled_from(
    ["..", ".", "", "images", "secret.jpg", "a.jpg", "up", "%2e%2e", "%252e%252e", "images-secret"]
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["", "file://", "File://localhost"]), st.lists(PIECES, max_size=6))
def test_no_path_that_is_allowed_leads_out(
    sources: Sources, disk: Path, scheme: str, pieces: list[str]
) -> None:
    try:
        _, path = sources.locate(f"{scheme}{disk}/images/{'/'.join(pieces)}")
    except InvalidImageEntry:
        return
    assert Path(path).resolve().is_relative_to((disk / "images").resolve())


async def test_without_roots_nothing_is_allowed(disk: Path) -> None:
    with pytest.raises(InvalidImageEntry, match="which is empty"):
        await Sources([], max_bytes=100).read((disk / "images" / "a.jpg").as_uri())


async def test_what_is_no_readable_file_is_refused_with_the_reason(
    sources: Sources, disk: Path
) -> None:
    for name, reason in (
        ("nowhere.jpg", "no such file"),
        ("a.jpg/b.jpg", "no such file"),
        ("inner folder", "not a regular file"),
        ("pipe", "not a regular file"),
        ("loop", "cannot be read: .*symbolic links"),
        ("x" * 256, "cannot be read: .*name too long"),
    ):
        with pytest.raises(InvalidImageEntry, match=reason):
            await sources.read(str(disk / "images" / name))


async def test_a_file_past_the_limit_is_rejected_and_one_at_it_is_read(disk: Path) -> None:
    (disk / "images" / "big").write_bytes(b"x" * 101)
    with pytest.raises(InvalidImageEntry, match="more than 100 bytes"):
        await Sources([str(disk / "images")], max_bytes=100).read(str(disk / "images" / "big"))
    allowed = Sources([str(disk / "images")], max_bytes=101)
    assert await allowed.read(str(disk / "images" / "big")) == b"x" * 101


async def test_remote_roots_are_compared_as_they_are_written() -> None:
    files = fsspec.filesystem("memory")
    files.pipe({"/bucket/people/a b.jpg": b"a", "/bucket/people-secret/b.jpg": b"secret"})
    sources = Sources(["memory://bucket/people"], max_bytes=100)
    assert await sources.read("Memory://bucket/people/a b.jpg") == b"a"
    for uri in (
        "memory://bucket/people-secret/b.jpg",
        "memory://bucket/people/../people-secret/b.jpg",
        "memory://bucket/people/%2e%2e/people-secret/b.jpg",
        "memory://bucket/people/%252e%252e/people-secret/b.jpg",
        "memory://bucket/people/..\\people-secret/b.jpg",
        "memory://bucket",
        "/bucket/people/a b.jpg",
        quote("memory://bucket/people/a b.jpg"),
    ):
        with pytest.raises(InvalidImageEntry, match="not allowed"):
            await sources.read(uri)
    with pytest.raises(InvalidImageEntry, match="no such file"):
        await sources.read("memory://bucket/people/c.jpg")


@pytest.fixture
def web() -> Iterator[str]:
    """A server that answers each path's number as its status."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.rpartition("/")[2]))
            self.send_header("Content-Length", "1")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"a")

        do_HEAD = do_GET  # noqa: N815 - the base class calls it so

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}/images"
    server.shutdown()
    server.server_close()


async def test_http_tells_a_wrong_uri_from_a_server_that_is_away(web: str) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/images"
    sources = Sources([web, nobody], max_bytes=100)
    assert await sources.read(f"{web}/200") == b"a"
    for status, reason in ((404, "no such file"), (403, "cannot be read: 403"), (410, "410")):
        with pytest.raises(InvalidImageEntry, match=reason):
            await sources.read(f"{web}/{status}")
    for uri in (f"{web}/408", f"{web}/429", f"{web}/500", f"{web}/503", f"{nobody}/200"):
        with pytest.raises(Unavailable, match="cannot be read at the moment"):
            await sources.read(uri)


async def test_a_storage_that_hangs_stops_no_other(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs already where links are followed, and would take the event loop with it."""
    (tmp_path / "b.jpg").write_bytes(b"b")
    sources = Sources([str(disk / "images"), str(tmp_path)], max_bytes=100, timeout_s=3)
    back, followed = threading.Event(), os.path.realpath

    def hanging(path: str) -> str:
        if path.startswith(str(disk)):
            back.wait(30)
        return followed(path)

    monkeypatch.setattr(os.path, "realpath", hanging)
    waiting = [
        asyncio.create_task(sources.read(str(disk / "images" / "a.jpg")))
        for _ in range(2 * READS_AT_ONCE)
    ]
    await asyncio.sleep(0.2)
    assert await sources.read(str(tmp_path / "b.jpg")) == b"b"
    results = await asyncio.gather(*waiting, return_exceptions=True)
    back.set()
    assert all(isinstance(result, Unavailable) for result in results)


async def test_a_file_is_not_read_once_the_budget_is_spent(sources: Sources, disk: Path) -> None:
    file = disk / "images" / "a.jpg"
    budget = ReadBudget(1)
    data = await sources.read(str(file), budget)
    assert data == file.read_bytes()
    assert budget.left == 1 - len(file.read_bytes())
    assert await sources.read(str(file), budget) is None
    assert await sources.read(str(file), budget, even_if_spent=True) == data
    assert budget.left == 1 - 2 * len(file.read_bytes())
    assert await sources.read(str(file)) == data


async def test_a_storage_that_fails_is_no_fault_of_the_file() -> None:
    memory = Path(f"/proc/{os.getpid()}/mem")  # a file that no one can read from its start
    with pytest.raises(Unavailable, match="cannot be read at the moment"):
        await Sources([str(memory.parent)], max_bytes=100).read(str(memory))


@pytest.mark.parametrize("root", ["nonsense://x", "file://elsewhere/x"])
def test_a_root_that_cannot_be_is_refused_at_the_start(root: str) -> None:
    with pytest.raises(ValueError, match=r"nonsense|elsewhere"):
        Sources([root], max_bytes=100)


async def test_a_redirect_goes_where_a_uri_may_go_and_nowhere_else() -> None:
    asked = list[str]()

    class Redirecting(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked.append(self.path)
            host = self.headers["Host"]
            target = {
                "/images/within": "/images/a.jpg",
                "/images/out": "/secret",
                "/images/elsewhere": f"http://localhost:{host.partition(':')[2]}/images/a.jpg",
                "/images/twice": "/images/out",
                "/images/file": "file:///etc/passwd",
            }.get(self.path)
            self.send_response(302 if target else 200)
            if target:
                self.send_header("Location", target)
            body = b"" if target else b"an image"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever).start()
        root = f"http://127.0.0.1:{server.server_port}/images"
        sources = Sources([root], max_bytes=100)
        assert await sources.read(f"{root}/within") == b"an image"
        for name in ("out", "elsewhere", "twice", "file"):
            with pytest.raises(InvalidImageEntry, match=r"it redirects to .*: not allowed"):
                await sources.read(f"{root}/{name}")
        server.shutdown()
    assert "/secret" not in asked
