"""A client in another language, written only from proto/, pushes images and finds them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import REPOSITORY, Stack
from passerby import Client
from tests.support.stack import People

JAVASCRIPT = REPOSITORY / "tests" / "e2e" / "javascript"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="no Node.js: apt-get install npm"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The script beside the packages that it needs."""
    folder = tmp_path_factory.mktemp("javascript")
    for file in JAVASCRIPT.iterdir():
        shutil.copy(file, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = subprocess.run(
        [*command, "--no-package-lock"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield folder
    shutil.rmtree(folder)


def test_javascript_pushes_images_and_finds_them(
    installed: Path, stack: Stack, people: People, client: Client, gallery: str
) -> None:
    caption = people.records[0]["captions"][0]
    files = [people.folder / "imgs" / str(record["file_path"]) for record in people.records[:4]]
    done = subprocess.run(
        [
            *("node", "client.mjs", str(REPOSITORY / "proto"), stack.redis_url, stack.query),
            *(gallery, caption, *map(str, files)),
        ],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)
    assert {hit["filename"] for hit in hits} == {file.name for file in files}
    same = client.search(caption, gallery=gallery)
    assert [hit["filename"] for hit in hits] == [hit.filename for hit in same]
    for hit in hits:
        assert hit["tags"] == {"written by": "protobufjs"}
        assert hit["captured_at"]["seconds"] == 1_777_636_800
