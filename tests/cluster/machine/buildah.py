"""Images made without a daemon, and written as archives that containerd imports."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.machine.shell import run, succeeds


@dataclass(frozen=True)
class Image:
    """One of buildah's, and what the cluster calls it."""

    name: str
    called: str

    @property
    def digest(self) -> str:
        words = ["--type", "image", "--format", "{{.FromImageID}}"]
        return run("buildah", "inspect", *words, self.name).strip()

    @contextlib.contextmanager
    def archive(self) -> Iterator[Path]:
        """A file to import it from, which is gone afterwards: the largest has five gigabytes."""
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            file = Path(folder) / "image.tar"
            # This kind is not compressed, which would take longer than writing it.
            run("buildah", "push", "--quiet", self.name, f"docker-archive:{file}:{self.called}")
            yield file


def exists(image: str) -> bool:
    return succeeds("buildah", "inspect", "--type", "image", image)


def commit(
    image: str,
    start: str,
    files: Mapping[Path, str],
    *,
    entrypoint: str = "",
    variables: Mapping[str, str] | None = None,
) -> None:
    """An image: that of `start` with more files, each at its place."""
    container = run("buildah", "from", start).strip()
    try:
        for source, place in files.items():
            run("buildah", "add", "--quiet", container, source, place)
        for name, value in (variables or {}).items():
            run("buildah", "config", "--env", f"{name}={value}", container)
        if entrypoint:
            run("buildah", "config", "--entrypoint", json.dumps([entrypoint]), container)
        run("buildah", "commit", "--quiet", container, image)
    finally:
        run("buildah", "rm", container)
