"""One release of the chart in a namespace: installed, filled, searched, examined."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy.helm.manifests import PROFILES, RELEASE
from tests.cluster.kubernetes import Kubernetes, Object
from tests.cluster.machine.shell import Words, run
from tests.support.chart import chart_folder, merged

INSIDE = Path(__file__).parent / "inside"
PROFILE = {profile.stem: profile for profile in PROFILES}
Values = dict[str, Any]
COMMAND_LINE = str(Path(sys.executable).with_name("passerby"))

# Two nodes of two processors are soon full of requests, and pods pending for that reason alone.
LITTLE: Values = {
    "embedder": {"resources": {"requests": {"cpu": "200m", "memory": "1Gi"}}},
    "milvus": {"standalone": {"resources": {"requests": {"cpu": "100m"}}}},
}
# What is to go on searching while any one of its pods is away.
TWO_OF_EACH: Values = merged(
    LITTLE,
    {
        "embedder": {"replicas": 2},
        "query": {"replicas": 2},
        "images": {"claim": {"accessMode": "ReadWriteMany"}},
    },
)


def chart() -> Path:
    """With Milvus' official chart where MILVUS_CHART names a checkout, else with its stand-in."""
    checkout = os.environ.get("MILVUS_CHART")
    return chart_folder(Path(checkout) / "charts" / "milvus" if checkout else None)


@dataclass(frozen=True)
class Held:
    """What is really there of a gallery."""

    rows: int
    """Of Milvus, counted now."""
    filenames: tuple[str | None, ...]
    """Of each row; None where Redis knows no name."""

    def lost(self, pushed: Sequence[str]) -> int:
        return len(set(pushed) - set(self.filenames))

    @property
    def double(self) -> int:
        return self.rows - len(set(self.filenames))


@dataclass
class Release:
    """Named as the guide names it, unless a test wants two."""

    cluster: Kubernetes
    name: str = RELEASE
    values: Values = field(default_factory=dict)
    """What it is installed with, over the profile `laptop-cpu`."""

    @property
    def parts(self) -> list[str]:
        """Everything that `kubectl rollout status` can wait for."""
        deployments = [f"{self.name}-{part}" for part in ("embedder", "indexer", "query")]
        milvus = f"{self.name}-milvus-standalone"
        return [f"deployment/{name}" for name in (*deployments, milvus)] + [
            f"statefulset/{self.name}-redis"
        ]

    def install(self) -> None:
        self._helm("install")

    def upgrade(self, *words: str, **values: Any) -> None:
        """values: in addition to those of the installation, this time."""
        self._helm("upgrade", *words, **values)

    def _helm(self, verb: str, *words: str, **more: Any) -> None:
        profile = PROFILE["laptop-cpu"]
        values: Words = ["--values", profile, "--values", "-"]
        text = yaml.safe_dump(merged(self.image_values(), self.values, more))
        self.cluster.helm(verb, self.name, chart(), *values, *words, stdin=text)

    @staticmethod
    def image_values() -> Values:
        """Where another cluster than this machine's finds our images."""
        registry = os.environ.get("REGISTRY", "")
        return {"image": {"registry": registry}} if registry else {}

    def wait_until_ready(self) -> None:
        for part in self.parts:
            self.cluster.rolled_out(part)

    def test(self) -> str:
        """`helm test`; what its pod said."""
        return self.cluster.helm("test", self.name, "--logs")

    def history(self) -> list[Object]:
        """Its revisions, as `helm history` has them."""
        listed: list[Object] = json.loads(self.cluster.helm("history", self.name, "-o", "json"))
        return listed

    def passerby(self, *words: str) -> str:
        """What a command of ours prints that finds the release by itself; run on this machine."""
        return run(*self.command_line(*words))

    def command_line(self, *words: str) -> list[str]:
        mine = ["--namespace", self.cluster.namespace, "--release", self.name]
        return [COMMAND_LINE, *words, *mine]

    def doctor(self) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        command = self.command_line("doctor")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def inside(self, script: str, *words: str) -> Any:
        """The JSON that a script of `inside/` prints in a query pod."""
        where = f"deployment/{self.name}-query"
        return json.loads(self.cluster.python(where, INSIDE / f"{script}.py", *words))

    def galleries(self) -> list[Object]:
        where = f"deployment/{self.name}-query"
        said = self.cluster.kubectl("exec", where, "--", "passerby", "status", "--json")
        listed: list[Object] = json.loads(said)
        return listed

    def gallery(self, name: str) -> Object:
        (found,) = [gallery for gallery in self.galleries() if gallery["name"] == name]
        return found

    def held(self, gallery: str) -> Held:
        found = self.inside("audit", gallery)
        return Held(found["rows"], tuple(found["filenames"]))

    def ten_searches(self, gallery: str) -> list[list[tuple[str, float]]]:
        found: list[list[tuple[str, float]]] = self.inside("ten_searches", gallery)
        return found

    def pod_of(self, part: str) -> str:
        """The name of one pod. part: embedder, indexer, query, redis or milvus."""
        return str(self.pods_of(part)[0]["metadata"]["name"])

    def pods_of(self, part: str) -> list[Object]:
        return self.cluster.pods(self.selector(part))

    def selector(self, part: str) -> str:
        mine = f"app.kubernetes.io/instance={self.name}"
        if part == "milvus":
            return f"{mine},app.kubernetes.io/name=milvus"
        return f"{mine},app.kubernetes.io/component={part}"
