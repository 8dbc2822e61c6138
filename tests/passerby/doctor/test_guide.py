"""The guide's table of faults and the doctor's are one."""

import re

from passerby.cluster.doctor.faults import FAULTS, remedy_for
from tests.support.documents import OPERATIONS


def rows() -> list[tuple[str, str]]:
    """The cells of the table below "Faults"."""
    section = (OPERATIONS / "doctor.md").read_text().partition("\n## Faults\n")[2]
    cells = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)
    assert cells[0] == ("it says", "do")
    return cells[1:]


def test_the_guide_has_the_doctors_faults_and_remedies() -> None:
    in_guide = [
        (
            tuple(re.findall(r"`([^`]+)`", words)),
            # A link of the guide is a path in a terminal.
            re.sub(r"\[([\w.-]+\.md)\]\(\1(#[\w-]+)?\)", r"docs/operations/\1\2", remedy),
        )
        for words, remedy in rows()
    ]
    assert in_guide == [(fault.words, fault.remedy) for fault in FAULTS]


def test_what_is_more_exact_wins() -> None:
    for fault in FAULTS:
        for words in fault.words:
            assert remedy_for(f"embedder: {words} ...") == fault.remedy, words
    said = "query cannot reach redis (invalid username-password pair or user is disabled.)"
    assert remedy_for(said).startswith("the Secret and Redis disagree")
    assert remedy_for("all is well", "look") == "look"
