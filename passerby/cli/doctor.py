"""`passerby doctor`: does a release on Kubernetes work, and if not, what to do about it."""

import dataclasses
import json
import sys
from pathlib import Path

import click

from passerby.cli.cluster import cluster_options, connect
from passerby.cli.terminal import say, show_table


@click.command()
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(
    release: str, namespace: str | None, context: str | None, kubeconfig: Path | None, as_json: bool
) -> None:
    """Check a release on Kubernetes. The exit code is 1 if a check fails."""
    with connect(release, namespace, context, kubeconfig) as cluster:
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
            say("")
            say(f"{finding.check}: {finding.detail}")
            say(f"  -> {finding.remedy}")
        if not failed:
            say("All checks passed.")
    sys.exit(1 if failed else 0)
