"""`passerby push --job`: the same push, by pods within the cluster."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from passerby.cli.cluster import cluster_options, connect
from passerby.cli.terminal import say
from passerby.client import OUTAGE_TIMEOUT_S
from passerby.cluster.job import PushJob, manifest
from passerby.counted import counted
from passerby.errors import PasserbyError
from passerby.sources import ImageMetadata

F = TypeVar("F", bound=Callable[..., Any])


def options(command: F) -> F:
    """Adds --job and the options that belong to it, under the names of `start`'s parameters."""
    for option in (
        cluster_options,
        click.option("--dry-run", is_flag=True, help="--job: print the Job, create nothing."),
        click.option("--image", help="--job: container image, instead of the indexer's."),
        click.option("--claim", help="--job: PersistentVolumeClaim that holds SOURCE."),
        click.option(
            "--workers", type=click.IntRange(1, 1000), default=1, help="--job: number of pods."
        ),
        click.option("--job", is_flag=True, help="Push from within a Kubernetes cluster."),
    ):
        command = option(command)
    return command


def refuse_options(given: Mapping[str, Any]) -> None:
    """Raises UsageError for options that mean nothing without --job."""
    for name in ("claim", "image", "dry_run"):
        if given[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --job")
    if given["workers"] > 1:
        raise click.UsageError("--workers needs --job")


def start(
    sources: Sequence[str],
    gallery: str,
    metadata: ImageMetadata,
    *,
    split: str | None,
    wait: bool,
    outage_timeout_s: float,
    again: bool,
    follow_links: bool,
    workers: int,
    claim: str | None,
    image: str | None,
    dry_run: bool,
    release: str,
    **cluster_of: Any,
) -> None:
    """Creates the Job, or with dry_run prints it for `kubectl apply -f -`."""
    if "-" in sources:
        raise click.UsageError("--job: the pods have no standard input; name folders or URLs")
    if not claim and not all("://" in source for source in sources):
        raise click.UsageError("--job: a path needs --claim, the PersistentVolumeClaim it is on")
    arguments = _arguments(metadata, split, outage_timeout_s, wait=wait, again=again)
    if follow_links:
        arguments.append("--follow-links")
    job = PushJob(sources, arguments, gallery, workers, claim, image)
    with connect(release, **cluster_of) as cluster:
        indexer = cluster.deployments().get("indexer")
        if indexer is None:
            raise PasserbyError(
                f"no indexer of release {release} in namespace {cluster.namespace}: `helm list -A` "
                f"shows releases and their namespaces; name them with --release and --namespace"
            )
        created = manifest(job, release, cluster.namespace, cluster.plain(indexer))
        if dry_run:
            click.echo(json.dumps(created, indent=2))
            return
        cluster.create_job(created)
    name = created["metadata"]["name"]
    say(f"Job {name} created: {counted(workers, 'pod pushes', 'pods push')} into {gallery}.")
    say(f"Its progress: kubectl -n {cluster.namespace} get job {name}")
    say(f"What failed: kubectl -n {cluster.namespace} logs job/{name} --all-pods")


def _arguments(
    metadata: ImageMetadata,
    split: str | None,
    outage_timeout_s: float,
    *,
    wait: bool,
    again: bool,
) -> list[str]:
    """The options of this push, as the pods are given them."""
    arguments = [f"--camera={metadata.camera}"] if metadata.camera else []
    if metadata.captured_at:
        arguments.append(f"--captured-at={metadata.captured_at.isoformat()}")
    arguments += [f"--tag={key}={value}" for key, value in metadata.tags.items()]
    if split:
        arguments.append(f"--split={split}")
    if outage_timeout_s != OUTAGE_TIMEOUT_S:
        arguments.append(f"--outage-timeout={outage_timeout_s:g}")
    if again:
        arguments.append("--again")
    return arguments if wait else [*arguments, "--no-wait"]
