"""Foreign text on a terminal stays text: no escape sequences, no markup, no broken lines."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.cli.terminal import complain, plain, say, show_table


@given(st.text())
def test_characters_that_control_a_terminal_are_escaped(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert shown.splitlines() in ([shown], [])


def test_printable_text_is_left_alone() -> None:
    for text in ("gate/1 (2).jpg", "名前/人.jpg", "🚶.jpg", "[bold]x[/bold]", "a\\b"):
        assert plain(text) == text
    assert plain("\x1b[2J\r\n\x07") == "\\x1b[2J\\r\\n\\x07"
    assert plain("exe\u202egpj.txt") == "exe\\u202egpj.txt"


def test_a_table_shows_hostile_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "[red]x[/red] [/] \x1b]0;title\x07 :smile: \udcff"
    show_table(("filename", "camera"), [(hostile, ""), ("plain.jpg", "")])
    shown = capsys.readouterr().out
    assert "[red]x[/red] [/] \\x1b]0;title\\x07 :smile: \\udcff" in shown
    assert "\x1b" not in shown
    assert "camera" not in shown  # nothing in that column


def test_a_table_for_a_pipe_is_not_broken_into_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("filename", "score"), [("x" * 3000, "0.5"), ("y", "-12.25")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("x" * 3000)
    assert lines[2].endswith("-12.25")


def test_messages_are_one_line_on_their_stream(capsys: pytest.CaptureFixture[str]) -> None:
    say("found\n\x1b[1m")
    complain("lost\n")
    out, err = capsys.readouterr()
    assert (out, err) == ("found\\n\\x1b[1m\n", "lost\\n\n")
    assert json.loads(json.dumps(out)) == out
