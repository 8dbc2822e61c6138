"""Prints tables and lines to a terminal, with control characters of foreign text escaped."""

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Output that goes to a file or another program is not broken into lines.
_UNBROKEN = 10_000


def plain(text: str) -> str:
    """The text in one line, without anything that controls a terminal.

    The name of a file or a camera could otherwise move the cursor, set the window's title or
    hide hits: `\\x1b[2J` becomes those six characters.
    """
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def say(line: str) -> None:
    click.echo(plain(line))


def complain(line: str) -> None:
    click.echo(plain(line), err=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows of text, numbers right-aligned; columns that are empty in every row are left out."""
    cells = [[plain(str(cell)) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    kept = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    for i in kept:
        numbers = all(
            row[i].replace(",", "").replace(".", "").lstrip("-").isdigit() for row in cells
        )
        table.add_column(columns[i], justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        # Text, not str, which rich would search for markup.
        table.add_row(*(Text(row[i]) for i in kept))
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(table)
    # Without what fills the last column up to its longest row.
    for line in captured.get().splitlines():
        click.echo(line.rstrip(" "))


def console() -> Console:
    """Made anew each time, so that it is the standard output of now."""
    return Console(
        width=None if sys.stdout.isatty() else _UNBROKEN, highlight=False, emoji=False, markup=False
    )
