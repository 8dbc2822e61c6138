"""Every profile, and everything that can be switched on: the API server accepts all objects.

Not all of them can run here: two want GPUs, one a cluster of Milvus. The dry run validates and
defaults objects as if they were created, the kinds of KEDA, of the Prometheus operator and of the
Gateway API included.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.helm.manifests import PROFILES, values_of
from tests.cluster.kubernetes import Kubernetes, namespace
from tests.cluster.records import Record
from tests.cluster.release import Values, chart
from tests.support.chart import MONITORED, SCALING, SINGLE, merged

EVERYTHING: Values = merged(
    MONITORED,
    SCALING,
    *(SINGLE[name] for name in ("cpu", "ingress-with-tls", "gateway", "closed-policies")),
    SINGLE["images-on-many-nodes"],
)
VALUES = {profile.stem: values_of(profile) for profile in PROFILES} | {"everything": EVERYTHING}


@pytest.fixture(scope="module")
def dry() -> Iterator[Kubernetes]:
    with namespace("dry") as cluster:
        # Whoever creates a pod has its account looked up, which a dry run has not made.
        cluster.kubectl("create", "serviceaccount", "passerby-selftest")
        yield cluster


@pytest.mark.parametrize("name", VALUES)
def test_the_api_server_accepts(dry: Kubernetes, name: str, record: Record, tmp_path: Path) -> None:
    # Helm built from its module believes in an old Kubernetes where it only renders.
    version = json.loads(dry.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    words = ["--values", "-", "--kube-version", version]
    rendered = dry.helm("template", "passerby", chart(), *words, stdin=yaml.safe_dump(VALUES[name]))
    accepted = dry.kubectl("apply", "--dry-run=server", "-f", "-", stdin=rendered)
    kinds = len([line for line in accepted.splitlines() if line.endswith("(server dry run)")])
    record.note = f"{kinds} objects"
    assert kinds == sum(1 for item in yaml.safe_load_all(rendered) if item)
