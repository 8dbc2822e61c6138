"""`passerby push --job`: the same push, by pods within the cluster."""

import json
from pathlib import Path

import click

from passerby.cli.cluster import connect
from passerby.cli.terminal import say
from passerby.cluster.job import PushJob, manifest
from passerby.errors import PasserbyError


def start(
    job: PushJob,
    *,
    dry_run: bool,
    release: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: Path | None,
) -> None:
    """Makes the Job, or with dry_run prints it for `kubectl apply -f -`."""
    if "-" in job.sources:
        raise click.UsageError("--job: the pods have no standard input; name folders or URLs")
    if not job.claim and not all("://" in source for source in job.sources):
        raise click.UsageError("--job: a path needs --claim, the PersistentVolumeClaim it lies on")
    with connect(release, namespace, context, kubeconfig) as cluster:
        indexer = cluster.deployments().get("indexer")
        if indexer is None:
            raise PasserbyError(
                f"no indexer of release {release} in namespace {cluster.namespace}: `helm list -A` "
                f"shows releases and their namespaces; name them with --release and --namespace"
            )
        made = manifest(job, release, cluster.namespace, cluster.plain(indexer))
        if dry_run:
            click.echo(json.dumps(made, indent=2))
            return
        cluster.create_job(made)
    name = made["metadata"]["name"]
    say(f"Job {name} is made: {job.workers} pods push into {job.gallery}.")
    say(f"How far it is: kubectl -n {cluster.namespace} get job {name}")
    say(f"What failed: kubectl -n {cluster.namespace} logs job/{name} --all-pods")
