"""`passerby search`: a caption, an image or a gallery image in, a table of people out."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from passerby.cli.options import filter_of, filter_options, gallery_option
from passerby.cli.terminal import say, show_table
from passerby.client import Client
from passerby.contract import DEFAULT_TOP_K, MAX_TOP_K, MAX_WINDOW
from passerby.values import Explanation, Hit, Hits


@click.command()
@click.argument("caption", required=False)
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Search for the person in this image file.",
)
@click.option("--like", metavar="FILENAME", help="Search for more like this image of the gallery.")
@gallery_option
@click.option(
    "--top-k",
    type=click.IntRange(1, MAX_TOP_K),
    default=DEFAULT_TOP_K,
    show_default=True,
    help="Number of hits.",
)
@click.option(
    "--offset", type=click.IntRange(0, MAX_WINDOW), default=0, help="Number of hits to skip."
)
@filter_options
@click.option("--explain", is_flag=True, help="Show timings, the filter and ignored words too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_obj
def search(
    client: Client,
    caption: str | None,
    image: Path | None,
    like: str | None,
    gallery: str,
    top_k: int,
    offset: int,
    cameras: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    tags: Sequence[tuple[str, str]],
    explain: bool,
    as_json: bool,
) -> None:
    """Find people by a CAPTION, for example "a woman in a purple dress"."""
    if sum(query is not None for query in (caption, image, like)) != 1:
        raise click.UsageError("give one of: CAPTION, --image FILE, --like FILENAME")
    hits = client.search(
        caption,
        image=image.read_bytes() if image else None,
        filename=like,
        gallery=gallery,
        top_k=top_k,
        offset=offset,
        where=filter_of(cameras, since, until, tags),
        explain=explain,
    )
    if as_json:
        found = [_json(hit) for hit in hits]
        click.echo(json.dumps(_explained(hits, found) if explain else found))
        return
    if hits:
        show_table(
            ("", "score", "filename", "camera", "captured", "tags"),
            [(offset + number, *_row(hit)) for number, hit in enumerate(hits, start=1)],
        )
    else:
        say(f"Nothing found in {gallery}; `passerby status` shows how many images it has.")
    if hits.explanation:
        show_table(("", ""), _explanation_rows(hits, hits.explanation))


def _row(hit: Hit) -> tuple[str, ...]:
    captured = hit.captured_at.isoformat(" ", "seconds") if hit.captured_at else ""
    tags = ", ".join(f"{key}={value}" for key, value in sorted(hit.tags.items()))
    return f"{hit.score:.3f}", hit.filename, hit.camera, captured, tags


def _json(hit: Hit) -> dict[str, object]:
    return {
        "filename": hit.filename,
        "score": hit.score,
        "camera": hit.camera,
        "captured_at": hit.captured_at.isoformat() if hit.captured_at else None,
        "tags": hit.tags,
    }


def _explained(hits: Hits, found: list[dict[str, object]]) -> dict[str, object]:
    explanation = hits.explanation
    assert explanation is not None, "the query service explains when it is asked to"
    return {
        "hits": found,
        "model": hits.model,
        "took_s": hits.took.total_seconds(),
        "unknown_words": explanation.unknown_words,
        "expression": explanation.expression,
        "embed_took_s": explanation.embed_took.total_seconds(),
        "search_took_s": explanation.search_took.total_seconds(),
        "resolve_took_s": explanation.resolve_took.total_seconds(),
    }


def _explanation_rows(hits: Hits, explanation: Explanation) -> list[tuple[str, str]]:
    took = {
        "took": hits.took,
        "  embedding": explanation.embed_took,
        "  Milvus": explanation.search_took,
        "  names": explanation.resolve_took,
    }
    rows = [(what, f"{time.total_seconds() * 1000:.1f} ms") for what, time in took.items()]
    rows.append(("model", hits.model))
    if explanation.expression:
        rows.append(("filter", explanation.expression))
    if explanation.unknown_words:
        rows.append(("ignored words", ", ".join(explanation.unknown_words)))
    return rows
