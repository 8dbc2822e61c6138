"""`passerby doctor`: does a release on Kubernetes work, and if not, what to do about it."""

import dataclasses
import json
import sys
from pathlib import Path

import click

from passerby.cli.cluster import cluster_options, connect
from passerby.cli.terminal import say, show_table

# What is longer stands in full below the table.
_TABLE_CHARACTERS = 100


@click.command()
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(
    release: str, namespace: str | None, context: str | None, kubeconfig: Path | None, as_json: bool
) -> None:
    """Check a release on Kubernetes, Milvus and Redis included.

    Exit codes: 0 if no check failed; 1 if one did, or if there is no cluster to connect to; 2 for
    options that do not exist.
    """
    with connect(release, namespace, context, kubeconfig) as cluster:
        from passerby.cluster.doctor.examination import examine

        findings = list(examine(cluster))
    failed = [finding for finding in findings if finding.verdict == "failed"]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        show_table(
            ("check", "verdict", "found"),
            [(f.check, f.verdict, _cut(f.detail)) for f in findings],
        )
        for finding in failed:
            say("")
            say(f"{finding.check}: {finding.detail}")
            say(f"  -> {finding.remedy}")
        if not failed:
            say("All checks passed.")
    sys.exit(1 if failed else 0)


def _cut(text: str) -> str:
    if len(text) <= _TABLE_CHARACTERS:
        return text
    return text[: _TABLE_CHARACTERS - 4] + " ..."
