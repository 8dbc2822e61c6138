"""Fetches the official Milvus chart for `make chart-deps`, without Helm's command line."""

import shutil
from pathlib import Path

import helm_python as helm


class NoMilvusChart(Exception):
    """The chart was not found in the repository; the message names both."""


def is_there(chart: Path) -> bool:
    (wanted,) = helm.dependency_list(chart)
    return wanted["status"] in ("ok", "unpacked")


def fetch(chart: Path, repository: str) -> str:
    """Puts the version that Chart.yaml names into charts/, and only it; returns its name."""
    (wanted,) = helm.dependency_list(chart)
    charts = chart / "charts"
    shutil.rmtree(charts, ignore_errors=True)
    charts.mkdir()
    name = f"{wanted['name']} {wanted['version']}"
    try:
        helm.pull(
            wanted["name"], version=wanted["version"], repo_url=repository, destination=charts
        )
    except helm.HelmError as error:
        raise NoMilvusChart(f"{name} cannot be fetched from {repository}: {error}") from error
    if not is_there(chart):
        raise NoMilvusChart(f"{repository} did not provide {name}")
    return name
