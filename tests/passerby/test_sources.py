"""What a person names to push: which files are meant, and what they are called."""

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby import Failure, Unavailable
from passerby.sources import ImageMetadata, InvalidSource, Listing, find, images
from services.indexer.sources import Sources
from tests.support.processes import free_port

NO_INPUT = io.BytesIO()


def names(source: str | Path, lines: str = "") -> list[str]:
    return find(str(source), io.BytesIO(lines.encode())).names


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())


def test_a_folders_images_are_named_by_their_path_below_it(tmp_path: Path) -> None:
    write(tmp_path, "b/2.JPG", "b/10.png", "a.jpeg", "notes.doc", "b/.hidden.jpg", ".git/x.jpg")
    assert names(tmp_path) == ["a.jpeg", "b/10.png", "b/2.JPG"]
    assert names(f"{tmp_path}/") == names(tmp_path)


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "2.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    assert names(tmp_path) == ["2.jpg", "a/1.jpg"]


def test_a_file_is_named_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "gate/1.jpg", "without-suffix")
    monkeypatch.chdir(tmp_path)
    assert names("gate/1.jpg") == names("./gate//1.jpg") == ["gate/1.jpg"]
    assert names("without-suffix") == ["without-suffix"]


def test_lists_come_from_a_file_or_standard_input(tmp_path: Path) -> None:
    listed = "gate/1.jpg\r\n\n./with space.png\n"
    (tmp_path / "list.txt").write_text(listed)
    assert names("-", listed) == ["gate/1.jpg", "with space.png"]
    assert names(tmp_path / "list.txt") == ["gate/1.jpg", "with space.png"]


def test_a_data_sets_images_are_named_by_file_path_once(tmp_path: Path) -> None:
    records = [{"file_path": name} for name in ("c1/1.jpg", "c2/1.jpg", "c1/1.jpg")]
    (tmp_path / "reid_raw.json").write_text(json.dumps(records))
    assert find(str(tmp_path), NO_INPUT) == Listing(f"{tmp_path}/imgs", ["c1/1.jpg", "c2/1.jpg"])


def test_one_split_of_a_data_set_is_a_gallery_to_evaluate_on(tmp_path: Path) -> None:
    records = [{"file_path": f"{split}.jpg", "split": split} for split in ("train", "test")]
    (tmp_path / "reid_raw.json").write_text(json.dumps(records))
    assert find(str(tmp_path), NO_INPUT, split="test").names == ["test.jpg"]
    with pytest.raises(InvalidSource, match="no images in it"):
        find(str(tmp_path), NO_INPUT, split="val")
    with pytest.raises(InvalidSource, match=r"reid_raw\.json: expected"):
        find(str(tmp_path / "imgs"), NO_INPUT, split="test")


@pytest.mark.parametrize("path", ["../../secret.jpg", "/etc/secret.jpg"])
def test_a_data_set_cannot_name_files_outside_of_it(tmp_path: Path, path: str) -> None:
    (tmp_path / "reid_raw.json").write_text(json.dumps([{"file_path": path}]))
    with pytest.raises(InvalidSource, match=r"secret\.jpg' is not below"):
        find(str(tmp_path), NO_INPUT)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[1]", '[{"file": "x"}]'])
def test_a_broken_annotation_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "reid_raw.json").write_text(text)
    with pytest.raises(InvalidSource, match=r"reid_raw.json: expected a list"):
        find(str(tmp_path), NO_INPUT)


def test_a_source_without_images_is_named(tmp_path: Path) -> None:
    write(tmp_path, "notes.doc")
    with pytest.raises(InvalidSource, match="missing: no such file"):
        find(str(tmp_path / "missing"), NO_INPUT)
    with pytest.raises(InvalidSource, match=r"no images in it; their names end in .*\.jpg"):
        find(str(tmp_path), NO_INPUT)


def test_an_unreadable_file_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "1.jpg", "3.jpg")
    (tmp_path / "2.jpg").mkdir()
    found = Listing(str(tmp_path), ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "nul\0.jpg"])
    rejected: list[Failure] = []
    read = list(images([found], ImageMetadata(camera="gate", tags={"floor": "1"}), rejected.append))
    assert [(image.filename, image.data) for image in read] == [
        ("1.jpg", b"1.jpg"),
        ("3.jpg", b"3.jpg"),
    ]
    assert {(image.camera, image.tags["floor"]) for image in read} == {("gate", "1")}
    assert [failure.filename for failure in rejected] == ["0.jpg", "2.jpg", "nul\0.jpg"]
    assert "No such file" in rejected[0].reason


@pytest.mark.parametrize("by", ["", "file://"])
def test_a_name_that_is_not_text_is_found_and_rejected_later(tmp_path: Path, by: str) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))).write_bytes(b"x")
    (image,) = images([find(f"{by}{tmp_path}", NO_INPUT)], ImageMetadata(), lambda _: None)
    with pytest.raises(ValueError, match="surrogate"):
        image.message()


@given(st.integers(1, 50), st.integers(1, 9))
def test_shares_are_disjoint_and_together_everything(count: int, of: int) -> None:
    listed = [f"{i}.jpg" for i in range(count)]
    lines = "\n".join(listed)
    shares = [find("-", io.BytesIO(lines.encode()), shard=i, of=of).names for i in range(of)]
    assert sorted(chain(*shares)) == sorted(listed)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_url_is_listed_here_and_read_by_the_indexer(tmp_path: Path) -> None:
    write(tmp_path, "b/2.JPG", "a.png", "notes.doc", ".hidden.jpg")
    found = find(tmp_path.as_uri(), NO_INPUT)
    assert found.names == ["a.png", "b/2.JPG"]
    pushed = list(images([found], ImageMetadata(), lambda _: None))
    assert [(image.filename, image.data, image.uri) for image in pushed] == [
        ("a.png", None, (tmp_path / "a.png").as_uri()),
        ("b/2.JPG", None, (tmp_path / "b" / "2.JPG").as_uri()),
    ]


def test_the_revision_of_a_url_changes_with_what_lies_there(tmp_path: Path) -> None:
    write(tmp_path, "1.jpg", "2.jpg")

    def revisions(source: Path) -> list[str]:
        found = find(source.as_uri(), NO_INPUT)
        return [image.revision for image in images([found], ImageMetadata(), lambda _: None)]

    before = revisions(tmp_path)
    assert before == revisions(tmp_path)
    (tmp_path / "2.jpg").write_bytes(b"longer than before")
    after = revisions(tmp_path)
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    assert revisions(tmp_path / "2.jpg") == after[1:]
    # A memory of fsspec's says nothing that changes: such an image is pushed each time.
    with fsspec.open("memory://people/1.jpg", "wb") as file:
        file.write(b"1")
    (image,) = images([find("memory://people", NO_INPUT)], ImageMetadata(), lambda _: None)
    assert (image.revision, image.message().digest) == ("", b"")


def test_a_url_of_one_image_is_that_image(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "a/2.jpg", "album.jpg/3.jpg")
    assert find(f"{tmp_path.as_uri()}/album.jpg", NO_INPUT).names == ["3.jpg"]
    (pushed,) = images(
        [find(f"{tmp_path.as_uri()}/a/1.jpg", NO_INPUT)], ImageMetadata(), lambda _: None
    )
    assert (pushed.filename, pushed.uri) == ("1.jpg", f"{tmp_path.as_uri()}/a/1.jpg")


async def test_the_indexer_reads_by_url_the_very_file_that_was_named(tmp_path: Path) -> None:
    names = ["50%20off.jpg", "50 off.jpg", "a#1.jpg", "b?2.jpg", "c::d.jpg", "é/名前.jpg"]
    folder = tmp_path / "100%25 #1"
    write(folder, *names)
    source = find(f"file://{quote(str(folder))}", NO_INPUT)
    assert sorted(source.names) == sorted(names)
    indexer = Sources([str(tmp_path)], max_bytes=1000, timeout_s=5)
    for image in images([source], ImageMetadata(), lambda _: None):
        assert image.uri is not None
        assert await indexer.read(image.uri) == image.filename.encode()


def test_a_url_is_listed_in_a_stable_order_without_following_links(
    tmp_path: Path,
) -> None:
    write(tmp_path, "b/2.jpg", "b/c/1.jpg", "a/9.jpg", "z.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert find(tmp_path.as_uri(), NO_INPUT).names == ["z.jpg", "a/9.jpg", "b/2.jpg", "b/c/1.jpg"]


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be listed now"):
        find(f"http://127.0.0.1:{free_port()}/people", NO_INPUT)


@pytest.mark.parametrize("by", ["", "file://"])
def test_a_folder_that_may_not_be_read_fails_the_listing(by: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        write(root, "locked/1.jpg", "open/2.jpg", "open/lost+found/3.jpg")
        (root / "locked").chmod(0)
        (root / "open" / "lost+found").chmod(0)  # at the root of many disks, and root's alone
        with as_nobody():
            for source in (root, root / "locked"):
                with pytest.raises(InvalidSource, match=r"locked.*images would be missing"):
                    find(f"{by}{source}", NO_INPUT)
            assert find(f"{by}{root}/open", NO_INPUT).names == ["2.jpg"]
        (root / "locked").chmod(0o755)
        (root / "open" / "lost+found").chmod(0o755)


@pytest.mark.parametrize("by", ["", "file://"])
def test_a_folder_that_is_deleted_meanwhile_is_skipped(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")

    def delete_then_chain(*parts: Iterable[str]) -> Iterator[str]:
        shutil.rmtree(tmp_path / "b")  # after the first name, before the others
        return chain(*parts)

    monkeypatch.setattr("passerby.sources.chain", delete_then_chain)
    assert find(f"{by}{tmp_path}", NO_INPUT).names == ["a/1.jpg", "c/3.jpg"]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; other users are left as they are."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("url", ["nosuch://bucket/people", "file:///no/such/folder"])
def test_a_url_that_cannot_be_listed_is_named(url: str) -> None:
    with pytest.raises(InvalidSource, match=url):
        find(url, NO_INPUT)


def test_links_of_files_are_followed_only_if_asked_and_only_regular_files_are_read(
    tmp_path: Path,
) -> None:
    """A link to /proc/self/environ put the environment, passwords included, into the queue."""
    folder, outside = tmp_path / "people", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "link.jpg").symlink_to(outside / "secret.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "tty.jpg").symlink_to("/dev/zero")

    def read(*, follow_links: bool, source: Path = folder) -> tuple[dict[str, object], list[str]]:
        failures = list[Failure]()
        found = find(str(source), NO_INPUT)
        pushed = images([found], ImageMetadata(), failures.append, follow_links=follow_links)
        return {it.filename: it.data for it in pushed}, [str(it.reason) for it in failures]

    taken, refused = read(follow_links=False)
    assert taken == {"a.jpg": b"a"}
    assert sum("is a link, or leads through one" in reason for reason in refused) == 2
    assert sum("is not a regular file" in reason for reason in refused) == 1
    taken, refused = read(follow_links=True)
    assert taken == {"a.jpg": b"a", "link.jpg": b"secret"}
    assert sum("is not a regular file" in reason for reason in refused) == 2
    # A data set names files, which folders that are links lead to as well.
    (folder / "imgs").symlink_to(outside)
    (folder / "reid_raw.json").write_text('[{"file_path": "secret.jpg", "split": "test"}]')
    assert read(follow_links=False)[0] == {}
    assert read(follow_links=True)[0] == {"secret.jpg": b"secret"}
    (folder / "imgs").unlink()
    (folder / "imgs").mkdir()
    (folder / "imgs" / "sub").symlink_to(outside)
    (folder / "reid_raw.json").write_text('[{"file_path": "sub/secret.jpg", "split": "test"}]')
    assert read(follow_links=False)[0] == {}
    # What is named is asked for.
    assert read(follow_links=False, source=folder / "link.jpg")[0].popitem()[1] == b"secret"
