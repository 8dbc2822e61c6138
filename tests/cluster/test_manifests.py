"""An installation with kubectl alone, as the guide has it, and its removal."""

from pathlib import Path

import pytest
import yaml

from deploy.helm.manifests import manifests, values_of
from tests.cluster.guide import NAMESPACE, desk, follow
from tests.cluster.kubernetes import namespace
from tests.cluster.records import Record
from tests.cluster.release import PROFILE, Release, chart

pytestmark = pytest.mark.long


def test_kubectl_alone(record: Record, tmp_path: Path) -> None:
    """The manifests of one profile, which fits this cluster instead of the page's."""
    table = desk(tmp_path)
    folder = table / "dist" / "manifests"
    folder.mkdir(parents=True)
    items = manifests(chart(), values_of(PROFILE["laptop-cpu"]), NAMESPACE)
    (folder / "laptop-cpu.yaml").write_text(yaml.safe_dump_all(items))
    changes = {"make manifests NAMESPACE=people": "true", "one-gpu": "laptop-cpu"}
    with namespace(NAMESPACE) as cluster:
        follow("install.md", "With kubectl alone", table, changes)
        release = Release(cluster)
        release.wait_until_ready()
        code, said = release.doctor()
        assert code == 0, said
        record.note = f"{len(items)} objects"
        heading = "An installation with kubectl alone"
        follow("uninstall.md", heading, table, {"one-gpu": "laptop-cpu"})
        assert not cluster.get("pvc")["items"]
