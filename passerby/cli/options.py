"""Options that several commands share: gallery, filter, times and tags."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from passerby.contract import DEFAULT_GALLERY, GALLERY_NAME, GALLERY_RULE
from passerby.values import Filter

F = TypeVar("F", bound=Callable[..., Any])


class Moment(click.ParamType[datetime]):
    """A time with its offset from UTC, so that it means the same everywhere."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2026-05-01T12:00:00+02:00", param, ctx)
        if time.tzinfo is None:
            self.fail(
                f"{value!r} has no offset from UTC; append Z or, for example, +02:00", param, ctx
            )
        return time


class GalleryName(click.ParamType[str]):
    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not GALLERY_NAME.fullmatch(value):
            self.fail(f"{value!r}: {GALLERY_RULE}", param, ctx)
        return str(value)


class Tag(click.ParamType[tuple[str, str]]):
    """KEY=VALUE as a pair."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, text = value.partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


gallery_option = click.option(
    "--gallery",
    type=GalleryName(),
    default=DEFAULT_GALLERY,
    show_default=True,
    help="Name of the gallery.",
)


def filter_options(command: F) -> F:
    """Adds the options of `filter_of`, under its parameters' names."""
    for option in (
        click.option("--tag", "tags", type=Tag(), multiple=True, help="Only images with this tag."),
        click.option("--until", type=Moment(), help="Only images captured before this time."),
        click.option("--since", type=Moment(), help="Only images captured at this time or later."),
        click.option(
            "--camera", "cameras", multiple=True, help="Only images from one of these cameras."
        ),
    ):
        command = option(command)
    return command


def filter_of(
    cameras: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    tags: Sequence[tuple[str, str]],
) -> Filter | None:
    """None if nothing is asked for."""
    if not (cameras or since or until or tags):
        return None
    return Filter(cameras, since, until, dict_of(tags))


def dict_of(tags: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Raises UsageError for a key that is given twice."""
    if len(dict(tags)) < len(tags):
        raise click.UsageError("--tag: the same key is given twice")
    return dict(tags)
