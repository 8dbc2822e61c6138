"""What `doctor` and `push --job` share: which release on which cluster."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from passerby.errors import PasserbyError

if TYPE_CHECKING:
    from passerby.cluster.access import Cluster

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(command: F) -> F:
    """Adds the options of `connect`, under its parameters' names."""
    for option in (
        click.option(
            "--kubeconfig", type=click.Path(path_type=Path), help="$KUBECONFIG if left out."
        ),
        click.option("--context", help="Of the kubeconfig; the current one if left out."),
        click.option("--namespace", help="That of the kubeconfig's context if left out."),
        click.option(
            "--release", default="passerby", show_default=True, help="As `helm list` shows it."
        ),
    ):
        command = option(command)
    return command


def connect(
    release: str, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> AbstractContextManager["Cluster"]:
    """Raises PasserbyError if there is no cluster, or no package to talk to it."""
    # Half a second, which only those who talk to a cluster shall wait.
    try:
        from passerby.cluster.access import Cluster
    except ModuleNotFoundError as error:
        raise PasserbyError(
            "this needs one more package: pip install 'passerby[cluster]'"
        ) from error
    return Cluster.connect(
        namespace=namespace, release=release, context=context, kubeconfig=kubeconfig
    )
