"""Two releases in one namespace, and a namespace that enforces the strictest pod security."""

import pytest

from tests.cluster.kubernetes import namespace
from tests.cluster.machine.shell import wait_for
from tests.cluster.release import LITTLE, Release

pytestmark = pytest.mark.long


def test_two_releases_in_one_namespace() -> None:
    with namespace("shared") as cluster:
        releases = [Release(cluster, name, LITTLE) for name in ("first", "second")]
        for release in releases:
            release.install()
        for release in releases:
            release.wait_until_ready()
            assert "3 hits by image" in release.test()
            code, said = release.doctor()
            assert code == 0, said
        # Each has its own self-test's gallery, and no other.
        assert [gallery["name"] for gallery in releases[0].galleries()] == ["selftest"]
        releases[1].cluster.helm("uninstall", "second", "--wait")
        assert "3 hits by image" in releases[0].test()


def test_restricted_pod_security() -> None:
    """All pods of ours are let in; Milvus' are not, and doctor says why they are missing."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with namespace("restricted", labels) as cluster:
        release = Release(cluster, values=LITTLE)
        release.install()
        cluster.rolled_out(f"deployment/{release.name}-embedder")
        cluster.rolled_out(f"statefulset/{release.name}-redis")
        # They wait for Milvus, but they run.
        wait_for(lambda: runs(release, "indexer"), "the indexer runs")
        wait_for(lambda: runs(release, "query"), "query runs")
        assert not release.pods_of("milvus")
        code, said = release.doctor()
        assert code == 1
        assert "PodSecurity" in said, said


def runs(release: Release, part: str) -> bool:
    return any(pod["status"]["phase"] == "Running" for pod in release.pods_of(part))
