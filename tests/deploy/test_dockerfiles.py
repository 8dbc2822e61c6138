"""What the Dockerfiles promise, read off their text; others build and run them."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.stack import REPOSITORY
from passerby.client import CONNECT_TIMEOUT_VARIABLE
from services.embedder.settings import EmbedderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings
from services.runtime.settings import ServiceSettings
from tests.support.chart import objects, workloads

DOCKER = REPOSITORY / "deploy" / "docker"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "embedder": EmbedderSettings,
    "indexer": IndexerSettings,
    "query": QuerySettings,
}

every_service = pytest.mark.parametrize("service", SETTINGS)


@dataclass(frozen=True)
class Instruction:
    name: str
    value: str


def instructions(service: str) -> list[Instruction]:
    text = (DOCKER / f"{service}.Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def values(service: str, name: str) -> list[str]:
    return [found.value for found in instructions(service) if found.name == name]


def result(service: str) -> list[Instruction]:
    """The instructions of the last stage: what is in the image."""
    found = instructions(service)
    last = max(index for index, each in enumerate(found) if each.name == "FROM")
    return found[last:]


def pairs(service: str, name: str) -> dict[str, str]:
    """The `key=value` pairs of the result's ENV or LABEL instructions."""
    words = [
        word for each in result(service) if each.name == name for word in shlex.split(each.value)
    ]
    return dict(word.split("=", 1) for word in words)


def copied(service: str) -> Iterator[str]:
    """The files and folders that are taken from the repository."""
    for value in values(service, "COPY"):
        *sources, _ = value.split()
        if not sources[0].startswith("--from="):
            yield from sources


def test_every_service_has_a_dockerfile_and_nothing_else_does() -> None:
    assert {path.name.split(".")[0] for path in DOCKER.glob("*.Dockerfile")} == set(SETTINGS)


@every_service
def test_the_base_is_an_argument_with_a_full_version_and_no_registry(service: str) -> None:
    first = instructions(service)[0]
    assert first.name == "ARG"
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-bookworm", first.value)
    assert all(value.split()[0] == "${BASE}" for value in values(service, "FROM"))


def test_all_images_share_one_base() -> None:
    assert len({instructions(service)[0].value for service in SETTINGS}) == 1


@every_service
def test_build_tools_stay_out_of_the_image(service: str) -> None:
    assert len(values(service, "FROM")) == 2
    assert [each.value for each in result(service) if each.name == "RUN"] == []


@every_service
def test_the_build_downloads_only_from_the_package_index(service: str) -> None:
    assert values(service, "ADD") == []
    assert "://" not in " ".join(values(service, "RUN"))


@every_service
def test_every_installation_keeps_to_the_pinned_versions(service: str) -> None:
    commands = [
        command
        for value in values(service, "RUN")
        for command in value.split("&&")
        if "pip install" in command
    ]
    assert len(commands) == 3
    for command in commands:
        # `--no-deps` installs our own code; what builds it is pinned all the same.
        option = "--build-constraints" if "--no-deps" in command else "--constraint"
        assert f"{option} constraints.txt" in command


@every_service
def test_the_image_runs_as_a_numeric_user_without_a_shell(service: str) -> None:
    assert values(service, "USER") == ["10001:10001"]
    (entrypoint,) = values(service, "ENTRYPOINT")
    assert json.loads(entrypoint) == ["python", "-m", f"services.{service}"]
    assert values(service, "CMD") == []
    assert values(service, "STOPSIGNAL") == ["SIGTERM"]


@every_service
def test_the_image_writes_nowhere_but_in_tmp_and_listens_to_other_pods(service: str) -> None:
    environment = pairs(service, "ENV")
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["HOME"] == "/tmp"
    assert environment[f"{service.upper()}_HOST"] == "0.0.0.0"


@pytest.mark.parametrize("service", ["indexer", "query"])
def test_the_command_line_in_a_pod_waits_for_its_peers_at_first(service: str) -> None:
    """These images' pods run `passerby push`, `helm test` and what is typed into them."""
    assert pairs(service, "ENV")[CONNECT_TIMEOUT_VARIABLE] == "30"


@every_service
def test_the_image_exposes_the_ports_that_its_settings_default_to(service: str) -> None:
    fields = SETTINGS[service].model_fields
    ports = {str(fields[name].default) for name in ("port", "http_port") if name in fields}
    assert {port for value in values(service, "EXPOSE") for port in value.split()} == ports


@every_service
def test_the_image_is_labelled(service: str) -> None:
    labels = pairs(service, "LABEL")
    assert labels["org.opencontainers.image.title"] == f"passerby/{service}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {"description", "version", "revision"} < {name.split(".")[-1] for name in labels}


@every_service
def test_the_image_carries_the_code_of_one_service(service: str) -> None:
    carried = {path for path in copied(service) if path.startswith("services/")}
    shared = {"services/__init__.py", "services/runtime"}
    gallery = set() if service == "embedder" else {"services/gallery"}
    assert carried == {*shared, *gallery, f"services/{service}"}


@every_service
def test_copied_files_exist_and_are_sent_to_the_builder(service: str) -> None:
    ignore = (DOCKER / f"{service}.Dockerfile.dockerignore").read_text().splitlines()
    assert ignore[0] == "*"
    kept = [Path(line[1:]) for line in ignore if line.startswith("!")]
    for source in map(Path, copied(service)):
        assert (REPOSITORY / source).exists()
        assert any(source.is_relative_to(path) for path in kept), source


def test_the_embedder_serves_the_demo_model_unless_told_otherwise() -> None:
    assert "models/demo" in copied("embedder")
    assert pairs("embedder", "ENV")["EMBEDDER_MODELS"] == "/opt/models/demo"
    assert "!training" not in (DOCKER / "embedder.Dockerfile.dockerignore").read_text().split()


@pytest.mark.parametrize("gpu", [True, False])
def test_the_images_are_called_what_the_chart_calls_them(gpu: bool) -> None:
    commands = subprocess.run(
        ["make", "--dry-run", "images", "BUILDER=podman", "TAG=7", "REGISTRY=registry.example/us"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    built = set(re.findall(r"--tag (\S+)", commands))
    values = {
        "image": {"registry": "registry.example/us", "tag": "7"},
        "embedder": {"gpu": {"enabled": gpu}},
    }
    asked = {
        container["image"]
        for workload in workloads(objects(values), ours=True)
        for container in workload.containers
        if "/passerby/" in container["image"]
    }
    assert len(asked) == len(SETTINGS)
    assert asked < built


def test_an_untagged_build_is_the_version_that_the_chart_asks_for() -> None:
    commands = subprocess.run(
        ["make", "--dry-run", "images", "BUILDER=podman"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    chart = (REPOSITORY / "deploy/helm/passerby/Chart.yaml").read_text()
    (version,) = re.findall(r"^appVersion: (\S+)$", chart, re.MULTILINE)
    assert f"--tag passerby/query:{version} " in commands
