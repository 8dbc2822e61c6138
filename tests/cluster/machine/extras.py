"""What only a few scenarios need in the cluster: Prometheus with its operator."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.machine import images, programs, stand_ins
from tests.cluster.machine.buildah import Image
from tests.cluster.machine.cluster import Machine
from tests.cluster.machine.images import REAL_IMAGES
from tests.cluster.machine.recipes import Recipe
from tests.cluster.machine.shell import wait_for
from tests.support import base_image

# Variable: the network namespace of who runs a command within the cluster's network.
OUTSIDE = "OUTSIDE_NETWORK"


@dataclass(frozen=True)
class Extra:
    """The programs of its images, and a manifest of its name that starts them."""

    namespace: str
    programs: Recipe
    stand_ins: tuple[str, ...]
    """Of images that no package registry has."""
    pods: int
    """That run once it is there."""

    def add(self, machine: Machine) -> None:
        """Builds what is not there yet, and starts it in a cluster that is up. Does nothing where
        it runs."""
        if self._runs(machine):
            return
        folder = self.programs.build()
        for image in self._images(folder):
            with image.archive() as archive:
                machine.load(archive)
        machine.kubectl("apply", "--server-side", "--force-conflicts", "-f", folder / "kinds")
        machine.kubectl("apply", "-f", Path(__file__).with_name(f"{self.namespace}.yaml"))
        wait_for(lambda: self._runs(machine), f"{self.namespace} is ready", 300)

    def _images(self, folder: Path) -> Iterator[Image]:
        for program in folder.iterdir():
            if program.is_file():
                yield images.static(program)
        if not REAL_IMAGES:
            for name in self.stand_ins:
                stand_ins.make(base_image.NAME)
                stand_ins.make(name)
                yield Image(name, name)

    def _runs(self, machine: Machine) -> bool:
        said = machine.kubectl("-n", self.namespace, "get", "pods", "--no-headers")
        counts = [line.split()[1].split("/") for line in said.splitlines()]
        return sum(ready == all_of_it for ready, all_of_it in counts) == self.pods


EXTRAS = {
    extra.namespace: extra
    for extra in (
        Extra("monitoring", programs.PROMETHEUS, (stand_ins.KUBE_STATE_METRICS,), pods=3),
    )
}
