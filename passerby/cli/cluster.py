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
            "--kubeconfig",
            type=click.Path(path_type=Path),
            help="Kubeconfig file; $KUBECONFIG if left out.",
        ),
        click.option("--context", help="Context of the kubeconfig; the current one if left out."),
        click.option("--namespace", help="Namespace; that of the context if left out."),
        click.option(
            "--release",
            default="passerby",
            show_default=True,
            help="The release's name, as `helm list` shows it.",
        ),
    ):
        command = option(command)
    return command


def connect(
    release: str, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> AbstractContextManager["Cluster"]:
    """Raises PasserbyError if there is no cluster, or if the `cluster` extra is not installed."""
    # The import takes half a second; only the commands that need a cluster pay for it.
    try:
        from passerby.cluster.access import Cluster
    except ModuleNotFoundError as error:
        raise PasserbyError(
            f"{error.name} is missing here; in the repository: pip install '.[cluster]'"
        ) from error
    return Cluster.connect(
        namespace=namespace, release=release, context=context, kubeconfig=kubeconfig
    )
