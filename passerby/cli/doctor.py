"""`passerby doctor`: does a release on Kubernetes work, and if not, what is to be done."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from passerby.cli.terminal import say, show_table
from passerby.errors import PasserbyError

if TYPE_CHECKING:
    from passerby.cluster.access import Cluster


@click.command()
@click.option("--release", default="passerby", show_default=True, help="As `helm list` shows it.")
@click.option("--namespace", help="That of the kubeconfig's context if left out.")
@click.option("--context", help="Of the kubeconfig; the current one if left out.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Else $KUBECONFIG.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(
    release: str, namespace: str | None, context: str | None, kubeconfig: Path | None, as_json: bool
) -> None:
    """Examine a release on Kubernetes. Exit code 1 if a check fails."""
    cluster = connect(release, namespace, context, kubeconfig)
    from passerby.cluster.doctor import examine

    findings = list(examine(cluster))
    failed = [finding for finding in findings if finding.verdict == "failed"]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        show_table(
            ("check", "verdict", "found"), [(f.check, f.verdict, f.detail) for f in findings]
        )
        for finding in failed:
            say(f"\n{finding.check}: {finding.detail}")
            say(f"  -> {finding.remedy}")
        if not failed:
            say("Everything that was examined is well.")
    sys.exit(1 if failed else 0)


def connect(
    release: str, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> "Cluster":
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
