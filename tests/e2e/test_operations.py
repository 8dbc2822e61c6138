"""The operations pages show what our own commands print, but for names and figures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.helm.manifests import PROFILES, values_of
from deploy.local.stack import REPOSITORY, Stack
from tests.support.chart import notes
from tests.support.documents import OPERATIONS, blocks, commands
from tests.support.kubernetes_api import INDEXER_ENV, KubernetesApi, pod, serving, workload
from tests.support.stack import passerby


def shape(line: str) -> str:
    """The line without what differs from run to run: figures, versions, addresses, spaces."""
    line = re.sub(r"\S+:\d+ answers", "ADDRESS answers", line)
    line = re.sub(r"\b1 gallery\b", "1 galleries", line)
    line = re.sub(r"\b[0-9a-f]{8,12}\b", "VERSION", line)
    return " ".join(re.sub(r"\d[\d.,]*", "N", line).split())


def shown(page: str, command: str) -> list[str]:
    """The lines that the page has below commands that begin so; without those of other programs."""
    return [
        line
        for session in blocks(OPERATIONS / page, "console")
        for typed, printed in commands(session)
        if typed.startswith(command)
        for line in printed.splitlines()
        if line.strip() not in ("", "...")
    ]


def assert_printed(lines: list[str], output: str) -> None:
    printed = [shape(line) for line in output.splitlines()]
    assert lines
    for line in lines:
        beginning, dots, _ = shape(line).partition("...")
        assert any(p.startswith(beginning) if dots else p == beginning for p in printed), (
            f"{line!r} is not among\n{output}"
        )


def run_at(api: KubernetesApi, folder: Path, *arguments: str) -> str:
    with serving(api, folder) as kubeconfig:
        command = [str(Path(sys.executable).with_name("passerby")), *arguments]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.stdout


@pytest.fixture
def api(stack: Stack) -> KubernetesApi:
    """A healthy cluster whose query pods are the running query service."""
    api = KubernetesApi.healthy()
    api.ports |= {50052: stack.ports.query, 50053: stack.ports.indexer}
    return api


def test_helm_install_prints_the_notes_of_the_chart() -> None:
    (one_gpu,) = [profile for profile in PROFILES if profile.stem == "one-gpu"]
    assert_printed(shown("install.md", "helm install"), notes(values_of(one_gpu)))


@pytest.mark.parametrize("page", ["install.md", "upgrade.md", "milvus-cluster.md"])
def test_helm_test_prints_the_steps_of_the_self_test(page: str, stack: Stack) -> None:
    environment = {**os.environ, "PASSERBY_QUERY": stack.query, "REDIS_URL": stack.redis_url}
    done = subprocess.run(
        [sys.executable, "-m", "passerby.selftest"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert_printed(shown(page, "helm test"), done.stdout)


@pytest.mark.parametrize("page", ["install.md", "upgrade.md"])
def test_doctor_finds_a_release_well(
    page: str, api: KubernetesApi, people_gallery: str, tmp_path: Path
) -> None:
    output = run_at(api, tmp_path, "doctor")
    assert people_gallery in output
    assert_printed(shown(page, "passerby doctor"), output)


def test_doctor_names_a_pod_that_cannot_be_pulled(
    api: KubernetesApi, people_gallery: str, tmp_path: Path
) -> None:
    api.objects["deployments"][1] = workload("indexer", ready=1)
    api.objects["pods"][3] = pod("indexer", 1, waiting="ImagePullBackOff")
    output = run_at(api, tmp_path, "doctor")
    assert people_gallery in output
    assert_printed(shown("doctor.md", "passerby doctor"), output)


def test_a_push_by_a_job_says_how_to_follow_it(api: KubernetesApi, tmp_path: Path) -> None:
    indexer = api.objects["deployments"][1]["spec"]["template"]["spec"]
    indexer["containers"][0]["env"] = INDEXER_ENV
    for page in ("push.md", "model-swap.md"):
        (command,) = [
            typed
            for session in blocks(OPERATIONS / page, "console")
            for typed, _ in commands(session)
            if typed.startswith("passerby push")
        ]
        api.objects["jobs"] = []
        output = run_at(api, tmp_path, *command.split()[1:])
        assert_printed(shown(page, "passerby push"), output)


@pytest.mark.parametrize("page", ["backup.md", "model-swap.md", "troubleshooting.md"])
def test_status_shows_galleries_and_queue(page: str, stack: Stack, people_gallery: str) -> None:
    output = passerby(stack, "status")
    assert people_gallery in output
    lines = shown(page, "kubectl -n people exec deployment/passerby-query -- passerby status")
    # The self-test's gallery is there only if that has run.
    assert_printed([line for line in lines if not line.startswith("selftest")], output)


def test_an_explained_search_shows_the_time_of_each_step(stack: Stack, people_gallery: str) -> None:
    output = passerby(stack, "search", "--gallery", people_gallery, "--explain", "a man in red")
    assert_printed(shown("troubleshooting.md", "passerby search"), output)
