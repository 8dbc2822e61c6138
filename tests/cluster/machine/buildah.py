"""Images made without a daemon, and written as archives that containerd imports."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.machine.shell import run, succeeds


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


def archive(image: str, folder: Path, name: str = "") -> Path:
    """The image in a file of the folder, under another name if one is given; made unless there."""
    digest = run("buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", image)
    title = image.rpartition("/")[2].partition(":")[0]
    file = folder / f"{title}-{digest.strip()[:12]}.tar"
    if not file.exists():
        for former in folder.glob(f"{title}-*.tar"):
            former.unlink()
        unfinished = file.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        # This kind of archive is not compressed, which would take longer than writing it.
        run("buildah", "push", "--quiet", image, f"docker-archive:{unfinished}:{name or image}")
        unfinished.rename(file)
    return file
