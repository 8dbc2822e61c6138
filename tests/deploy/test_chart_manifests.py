"""The Milvus chart beside ours, and the manifests that are rendered for kubectl alone."""

import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import helm_python as helm
import pytest
import yaml
from click.testing import CliRunner

import deploy.helm.__main__ as commands
from deploy.helm.dependency import NoMilvusChart, fetch, is_there
from deploy.helm.manifests import PROFILES, manifests, values_of
from deploy.helm.reference import CHART
from tests.support.chart import NAMESPACE, chart_folder, of_kind, workloads


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A chart repository over HTTP that holds the stand-in."""
    folder = tmp_path / "repository"
    folder.mkdir()
    helm.package(chart_folder() / "charts" / "milvus", destination=folder)
    handler = functools.partial(QuietFiles, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        helm.repo_index_generate(folder, base_url=url)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield url
        server.shutdown()
        thread.join()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_chart_deps_fetches_the_version_that_the_chart_names(
    repository: str, tmp_path: Path
) -> None:
    chart = tmp_path / "passerby"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("charts"))
    assert not is_there(chart)
    assert fetch(chart, repository) == "milvus 5.0.19"
    assert [path.name for path in (chart / "charts").iterdir()] == ["milvus-5.0.19.tgz"]
    assert is_there(chart)
    assert manifests(chart, {}) == manifests(chart_folder(), {})


def test_a_repository_without_the_milvus_chart_is_named(repository: str, tmp_path: Path) -> None:
    chart = tmp_path / "passerby"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("charts"))
    wrong = repository + "/elsewhere"
    with pytest.raises(NoMilvusChart, match=f"milvus 5.0.19 cannot be fetched from {wrong}"):
        fetch(chart, wrong)


def test_there_is_a_profile_for_a_laptop_one_gpu_and_a_cluster() -> None:
    assert [profile.stem for profile in PROFILES] == ["cluster", "laptop-cpu", "one-gpu"]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.stem)
def test_manifests_are_for_kubectl_alone(profile: Path) -> None:
    items = manifests(chart_folder(), values_of(profile))
    assert not of_kind(items, "Secret"), "a generated password would change with every rendering"
    annotations = [item["metadata"].get("annotations") or {} for item in items]
    assert not any("helm.sh/hook" in names for names in annotations)
    assert {"passerby-embedder", "passerby-indexer", "passerby-query"} <= {
        item["metadata"]["name"] for item in of_kind(items, "Deployment")
    }
    # Twice the same, in either order: rendering leaves nothing behind.
    again = manifests(chart_folder(), values_of(profile))
    assert yaml.safe_dump_all(items) == yaml.safe_dump_all(again)
    passwords = [
        variable["valueFrom"]["secretKeyRef"]["name"]
        for pod in workloads(items, ours=True)
        for container in pod.containers
        for variable in container.get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]
    assert set(passwords) == {"passerby-redis-password"}


def test_kubectl_leaves_the_number_of_pods_to_an_autoscaler() -> None:
    def counted(profile: Path) -> set[str]:
        items = of_kind(manifests(chart_folder(), values_of(profile)), "Deployment")
        return {item["metadata"]["name"] for item in items if "replicas" in item["spec"]}

    ours = {"passerby-embedder", "passerby-indexer", "passerby-query"}
    with_one, of_scaling = (counted(p) & ours for p in PROFILES if p.stem in ("one-gpu", "cluster"))
    assert (of_scaling, with_one) == (ours, set())


@pytest.mark.parametrize("namespace", [NAMESPACE, "default"])
def test_manifests_are_for_one_namespace(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "CHART", chart_folder())
    written = CliRunner().invoke(
        commands.main, ["manifests", str(tmp_path), "--namespace", namespace]
    )
    assert written.exit_code == 0, written.output
    text = (tmp_path / "cluster.yaml").read_text()
    assert f"kubectl -n {namespace} create secret" in text
    items = list(yaml.safe_load_all(text))
    (rules,) = of_kind(items, "PrometheusRule")
    for rule in rules["spec"]["groups"][0]["rules"]:
        assert f'namespace="{namespace}"' in rule["expr"]
    (scaler,) = of_kind(items, "ScaledObject")
    address = scaler["spec"]["triggers"][0]["metadata"]["address"]
    assert address == f"passerby-redis.{namespace}.svc:6379"
