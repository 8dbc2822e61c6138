"""`passerby push --job` at a cluster that is served for real: the Job, and what is in its way."""

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from passerby.cli import main
from tests.passerby.by_hand import batches_on
from tests.support.kubernetes_api import INDEXER_ENV, NAMESPACE, RELEASE, KubernetesApi, serving

MINORS = ("1.35", "1.36", "1.37")


@pytest.fixture
def api() -> KubernetesApi:
    api = KubernetesApi.healthy()
    pod = api.objects["deployments"][1]["spec"]["template"]["spec"]
    pod["containers"][0] |= {"env": INDEXER_ENV, "imagePullPolicy": "Always"}
    pod |= {"serviceAccountName": "passerby-indexer", "imagePullSecrets": [{"name": "registry"}]}
    return api


@pytest.fixture
def kubeconfig(api: KubernetesApi, tmp_path: Path) -> Iterator[Path]:
    with serving(api, tmp_path) as kubeconfig:
        yield kubeconfig
        # The package lets go of the connection of an error with the error.
        gc.collect()


def push_job(kubeconfig: Path, *arguments: str) -> Result:
    command = ["push", "--job", "--kubeconfig", str(kubeconfig), *arguments]
    return CliRunner().invoke(main, command)


FROM_CLAIM = ("people", "--gallery", "mine", "--claim", "images", "--workers", "3")


def test_the_job_runs_the_indexers_image_with_its_credentials(
    api: KubernetesApi, kubeconfig: Path
) -> None:
    done = push_job(kubeconfig, *FROM_CLAIM, "--camera", "gate 1", "--tag", "floor=1")
    assert done.exit_code == 0, done.output
    (job,) = api.created
    assert job["metadata"]["name"] in done.stdout
    assert f"kubectl -n {NAMESPACE} get job" in done.stdout
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 3
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "passerby/indexer:0.1.0"
    assert container["imagePullPolicy"] == "Always"
    assert pod["serviceAccountName"] == "passerby-indexer"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    query = {"name": "PASSERBY_QUERY", "value": f"{RELEASE}-query:50052"}
    assert container["env"] == [query, *INDEXER_ENV[:2]]
    assert container["command"] == [
        *("passerby", "push", "./people", "--gallery", "mine", "--camera=gate 1", "--tag=floor=1"),
        *("--shard", "$(JOB_COMPLETION_INDEX)/3"),
    ]
    assert container["workingDir"] == "/source"
    assert {"name": "source", "mountPath": "/source", "readOnly": True} in container["volumeMounts"]


def dry_run(kubeconfig: Path, *arguments: str) -> dict[str, Any]:
    done = push_job(kubeconfig, "--dry-run", *arguments)
    assert done.exit_code == 0, done.output
    job: dict[str, Any] = json.loads(done.stdout)
    return job


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("arguments", [FROM_CLAIM, ("s3://bucket/people",)])
def test_the_manifest_satisfies_the_schema_of_the_api(
    api: KubernetesApi, kubeconfig: Path, minor: str, arguments: tuple[str, ...]
) -> None:
    kubernetes_validate.validate(dry_run(kubeconfig, *arguments), minor, strict=True)
    assert api.created == []


def test_the_pods_satisfy_restricted_and_hold_no_token(kubeconfig: Path) -> None:
    pod = dry_run(kubeconfig, *FROM_CLAIM)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim"}


def test_broken_images_are_not_pushed_again_and_an_eviction_costs_no_try(kubeconfig: Path) -> None:
    spec = dry_run(kubeconfig, *FROM_CLAIM)["spec"]
    assert spec["backoffLimitPerIndex"] > 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    actions = {rule["action"]: rule for rule in spec["podFailurePolicy"]["rules"]}
    assert actions["FailIndex"]["onExitCodes"] == {"operator": "In", "values": [1]}
    assert actions["Ignore"]["onPodConditions"] == [{"type": "DisruptionTarget"}]


def expanded(part: str, variables: dict[str, str]) -> str:
    """As Kubernetes does it: $(NAME) is the variable, $$ is one $."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_]+)\)", value, part)


def test_the_pods_commands_push_everything_between_them(
    kubeconfig: Path, redis_url: str, tmp_path: Path
) -> None:
    """The command of each index, run here with the claim's folder in its place."""
    names = [f"{i}.jpg" for i in range(7)]
    for name in names:
        (tmp_path / "claim" / "people").mkdir(parents=True, exist_ok=True)
        (tmp_path / "claim" / "people" / name).write_bytes(b"x")
    tag = "x=$(REDIS_PASSWORD) $$5"
    job = dry_run(
        kubeconfig, *FROM_CLAIM, "--no-wait", "--tag", tag, "--outage-timeout", "600", "--again"
    )
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert {"--outage-timeout=600", "--again"} <= set(command)
    command[0] = str(Path(sys.executable).with_name(command[0]))
    for index in range(job["spec"]["completions"]):
        variables = {"JOB_COMPLETION_INDEX": str(index), "REDIS_PASSWORD": "secret"}
        subprocess.run(
            [expanded(part, variables) for part in command],
            cwd=tmp_path / "claim",
            env={**os.environ, "REDIS_URL": redis_url},
            check=True,
            capture_output=True,
        )
    with Redis.from_url(redis_url) as redis:
        batches = batches_on(redis)
    assert len(batches) == 3
    pushed = [image for batch in batches for image in batch.images]
    assert sorted(image.filename for image in pushed) == names
    assert {image.tags["x"] for image in pushed} == {"$(REDIS_PASSWORD) $$5"}


def test_files_on_the_claim_are_named_by_their_path_on_it(kubeconfig: Path) -> None:
    pod = dry_run(kubeconfig, "--claim", "images", "/gate/1.jpg", "list.txt", "--", "-odd")
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    assert container["command"][2:5] == ["./gate/1.jpg", "./list.txt", "./-odd"]
    assert container["workingDir"] == "/source"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--job", "--shard", "1/2", "s3://bucket/people"), "--shard"),
        (("--workers", "4", "."), "--workers needs --job"),
        (("--claim", "images", "."), "--claim needs --job"),
        (("--image", "mine", "."), "--image needs --job"),
        (("--dry-run", "."), "--dry-run needs --job"),
        (("--job", "--tag", "a=1", "--tag", "a=2", "s3://bucket/people"), "given twice"),
    ],
)
def test_options_of_the_other_way_to_push_are_refused(
    arguments: tuple[str, ...], says: str
) -> None:
    done = CliRunner().invoke(main, ["push", *arguments])
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.parametrize("current", ["other", None])
def test_the_named_context_decides_on_the_namespace_as_well(
    kubeconfig: Path, current: str | None
) -> None:
    contexts = json.loads(kubeconfig.read_text())
    (test,) = contexts["contexts"]
    other = {"name": "other", "context": {**test["context"], "namespace": "of-the-other"}}
    contexts |= {"contexts": [test, other], "current-context": current}
    kubeconfig.write_text(json.dumps(contexts))
    job = dry_run(kubeconfig, *FROM_CLAIM, "--context", test["name"])
    assert job["metadata"]["namespace"] == NAMESPACE


def test_the_same_push_does_not_run_twice_at_once(api: KubernetesApi, kubeconfig: Path) -> None:
    assert push_job(kubeconfig, *FROM_CLAIM).exit_code == 0
    again = push_job(kubeconfig, *FROM_CLAIM)
    assert again.exit_code == 1
    assert "already exists" in again.stderr
    assert "delete it to push again" in again.stderr
    assert push_job(kubeconfig, "others", "--claim", "images").exit_code == 0
    assert len(api.created) == 2


@pytest.mark.parametrize(("resource", "verb"), [("jobs", "create"), ("deployments", "list")])
def test_a_missing_permission_is_named(
    api: KubernetesApi, kubeconfig: Path, resource: str, verb: str
) -> None:
    api.forbidden = {resource}
    done = push_job(kubeconfig, *FROM_CLAIM)
    assert done.exit_code == 1
    assert f"kubectl auth can-i {verb} {resource} -n {NAMESPACE}" in done.stderr
    assert api.created == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("people",), 2, "a path needs --claim"),
        (("-", "--claim", "images"), 2, "no standard input"),
        (("s3://bucket/people", "--release", "other"), 1, "no indexer of release other"),
    ],
)
def test_a_source_that_the_pods_cannot_read_is_refused(
    kubeconfig: Path, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    done = push_job(kubeconfig, *arguments)
    assert done.exit_code == exit_code
    assert message in done.stderr
