"""A real Kubernetes for the tests: `python -m tests.cluster --help`.

`make test-cluster` runs `test`. CLUSTER names the cluster on this machine (`passerby`).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tests.cluster.machine import images, programs, requirements
from tests.cluster.machine.cluster import Machine
from tests.cluster.machine.extras import EXTRAS, OUTSIDE
from tests.cluster.machine.layout import NAME, Layout
from tests.cluster.machine.shell import wait_for
from tests.support.processes import REPOSITORY

_ANY_WORDS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
any_words = click.argument("words", nargs=-1, type=click.UNPROCESSED)


def machine() -> Machine:
    return Machine(Layout(NAME), programs.CLUSTER.folder)


def start() -> None:
    """From nothing to a cluster with all images; exits where this machine cannot be one."""
    if found := requirements.obstacles():
        sys.exit("\n".join(["no cluster can be started on this machine:", *found]))
    images.fill_store(images.make(programs.CLUSTER.build()))
    machine().up()


def inside(words: Sequence[str]) -> int:
    """Runs a command within the cluster's network; returns its exit code."""
    this = machine()
    # What has to be built meanwhile needs the network that this process is in.
    outside = {OUTSIDE: f"/proc/{os.getpid()}/ns/net"}
    environment = {**os.environ, **this.environment, **outside}
    command = [*this.layout.master.enter, *words]
    return subprocess.run(command, env=environment, check=False).returncode


@click.group(help=__doc__)
def main() -> None:
    # So that a cluster is taken away where a run is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))


@main.command()
def up() -> None:
    """Start a cluster on this machine, with everything in it."""
    start()
    print(f"export KUBECONFIG={machine().layout.kubeconfig('admin')}")


@main.command(context_settings=_ANY_WORDS)
@any_words
def run(words: Sequence[str]) -> None:
    """Run a command within the cluster's network, such as `run kubectl get pods -A`."""
    sys.exit(inside(words))


@main.command()
@click.argument("archives", nargs=-1, type=click.Path(exists=True, path_type=Path))
def load(archives: Sequence[Path]) -> None:
    """Put images into both nodes, from ARCHIVES of OCI or of docker."""
    for archive in archives:
        machine().load(archive)


@main.command()
def ours() -> None:
    """Build this checkout's images and put them into both nodes."""
    for image in images.ours():
        with image.archive() as archive:
            machine().load(archive)


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(EXTRAS)), metavar="NAMES")
def add(names: Sequence[str]) -> None:
    """Build and start what only a few scenarios need: monitoring."""
    for name in names:
        EXTRAS[name].add(machine())


@main.command(context_settings=_ANY_WORDS)
@any_words
def test(words: Sequence[str]) -> None:
    """Run the scenarios; WORDS are pytest's, such as `-k drain`.

    On the cluster of KUBECONFIG if one is named, else on the one on this machine: it is started
    and taken away again, unless it was up before.
    """
    command = [sys.executable, "-m", "pytest", *(words or ["-m", "cluster", "tests/cluster"])]
    if os.environ.get("KUBECONFIG"):
        sys.exit(subprocess.run(command, cwd=REPOSITORY, check=False).returncode)
    if machine().processes.running:
        # It may be someone else's, and short of a node just now.
        wait_for(lambda: machine().is_up, f"the cluster {NAME} has both nodes ready")
        sys.exit(inside(command))
    try:
        start()
        code = inside(command)
    finally:
        machine().down()
    sys.exit(code)


@main.command()
def packages() -> None:
    """Print Debian's packages that this machine lacks."""
    print(*requirements.missing_packages())


@main.command()
def can() -> None:
    """Exit with 1 where this machine cannot be a cluster, and say why."""
    if found := requirements.obstacles():
        sys.exit("\n".join(found))


@main.command()
def down() -> None:
    """Take the cluster on this machine away, with all that is in it."""
    machine().down()


if __name__ == "__main__":
    main()
