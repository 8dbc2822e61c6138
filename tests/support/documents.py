"""Markdown files as a reader's browser sees them: their headings, links and blocks of code."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OPERATIONS = REPOSITORY / "docs" / "operations"

# A block may be indented, as part of a list's item.
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Link:
    """`[text](target)` in the file `source`."""

    source: Path
    text: str
    target: str

    @property
    def path(self) -> Path:
        """The file or folder that is meant."""
        name = self.target.partition("#")[0]
        return (self.source.parent / name).resolve() if name else self.source

    @property
    def anchor(self) -> str:
        return self.target.partition("#")[2]


def documents() -> list[Path]:
    """What people read on its own: the top level's files, the chart's README, docs/."""
    top = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    chart = REPOSITORY / "deploy" / "helm" / "passerby" / "README.md"
    return [*top, chart, *sorted((REPOSITORY / "docs").rglob("*.md"))]


def relative_links(document: Path) -> list[Link]:
    """Its links, images included, to files of this repository."""
    prose = _BLOCK.sub("", document.read_text())
    links = [Link(document, text, target) for text, target in _LINK.findall(prose)]
    # A picture may be the text of a link.
    links += [link for outer in links for link in _links_in(outer)]
    return [link for link in links if "://" not in link.target]


def _links_in(link: Link) -> list[Link]:
    return [Link(link.source, text, target) for text, target in _LINK.findall(link.text)]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a Markdown file."""
    found: set[str] = set()
    prose = _BLOCK.sub("", document.read_text())
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchor, number = words, 0
        while anchor in found:
            number += 1
            anchor = f"{words}-{number}"
        found.add(anchor)
    return found


def blocks(document: Path, language: str) -> list[str]:
    """The text of each block of code in that language, without its indentation."""
    return blocks_in(document.read_text(), language)


def blocks_in(markdown: str, language: str) -> list[str]:
    return [
        re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        for indent, marked, text in _BLOCK.findall(markdown)
        if marked == language
    ]


def commands(session: str) -> Iterator[tuple[str, str]]:
    """(command, what it prints) of each command in a `console` block; `$ ` begins a command, which
    goes on after a backslash and through a here-document that ends with END."""
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        lines = re.match(r"(?:.*\\\n)*.*\n", part)
        assert lines, part
        command, printed = lines[0], part[lines.end() :]
        if "<<'END'" in command:
            printed = printed.partition("\nEND\n")[2]
        yield command, printed


def definitions(file: Path) -> set[str]:
    """What a source file defines: functions, classes and constants, methods also as Class.method;
    of the files that are not Python, messages, calls and functions."""
    text = file.read_text()
    if file.suffix == ".py":
        return set(_python(ast.parse(text).body, ""))
    return set(re.findall(r"\b(?:message|service|rpc|function|const) (\w+)", text))


def _python(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _python(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id
        elif isinstance(node, ast.Assign):
            yield from (prefix + t.id for t in node.targets if isinstance(t, ast.Name))
