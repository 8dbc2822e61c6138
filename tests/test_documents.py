"""The documents' links, names and commands: what they point to exists."""

import re
from pathlib import Path

import pytest

from tests.support.documents import (
    OPERATIONS,
    REPOSITORY,
    anchors,
    blocks,
    commands,
    definitions,
    documents,
    relative_links,
)

ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
MAX_PAGE_LINES = 120


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for link in relative_links(document):
        assert link.path.exists(), link.target
        assert link.path.is_relative_to(REPOSITORY), link.target
        if link.anchor:
            assert link.anchor in anchors(link.path), link.target


def test_a_page_of_the_documents_that_code_names_exists() -> None:
    sources = [
        path
        for folder in ("passerby", "services", "training", "deploy")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".txt", ".tpl", ".js") and path.is_file()
    ]
    named = [
        found
        for path in sources
        for found in re.findall(r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?", path.read_text())
    ]
    assert len(named) > 5
    for page, anchor in named:
        assert (REPOSITORY / "docs" / page).is_file(), page
        if anchor:
            assert anchor in anchors(REPOSITORY / "docs" / page), f"{page}#{anchor}"


def test_what_the_architecture_page_names_is_defined_in_the_file_that_it_links() -> None:
    named = [
        (name, link.path)
        for link in relative_links(ARCHITECTURE)
        for name in re.findall(r"`([\w.]+)`", link.text)
    ]
    assert len(named) > 30
    for name, path in named:
        assert name in definitions(path), f"{name} is not defined in {name_of(path)}"


def test_the_index_of_operations_has_every_page() -> None:
    index = OPERATIONS / "README.md"
    linked = {link.path for link in relative_links(index) if link.path.parent == OPERATIONS}
    assert linked == {*OPERATIONS.glob("*.md")} - {index}


@pytest.mark.parametrize("page", sorted(OPERATIONS.glob("*.md")), ids=name_of)
def test_a_page_of_operations_is_short_and_says_what_each_command_prints(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) < MAX_PAGE_LINES
    assert len(re.findall(r"^ *```\w*$", text, re.MULTILINE)) == 2 * len(blocks(page, "console"))
    for session in blocks(page, "console"):
        assert session.startswith("$ "), session
        for command, printed in commands(session):
            assert printed.strip(), f"nothing is said of what this prints: {command}"


@pytest.mark.parametrize("page", sorted(OPERATIONS.glob("*.md")), ids=name_of)
def test_events_and_metrics_that_a_page_of_operations_names_exist(page: Path) -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "services").rglob("*.py"))
    text = page.read_text()
    events = re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text) + re.findall(r'"event": "(\w+)"', text)
    for event in events:
        # Prometheus's client appends the ending to a counter's name.
        assert f'"{event.removesuffix("_total")}"' in sources, event
