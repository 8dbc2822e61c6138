"""The operations guide, followed word by word: a section's commands are run as they stand there."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.helm.manifests import PROFILES
from tests.cluster.machine.shell import run
from tests.cluster.release import COMMAND_LINE, chart
from tests.support.documents import OPERATIONS, blocks_in, commands

# The namespace and the release that all pages assume.
NAMESPACE = "people"


def section(page: str, heading: str) -> list[tuple[str, str]]:
    """(command, what it prints) of everything below the heading, up to the next one."""
    text = (OPERATIONS / page).read_text()
    # A comment among commands looks like a heading.
    prose = re.sub(r"^( *)```.*?^ *```", _blank, text, flags=re.MULTILINE | re.DOTALL)
    start = re.search(rf"^(#+) {re.escape(heading)}$", prose, re.MULTILINE)
    assert start, f"{page} has no heading {heading!r}"
    end = re.compile(rf"^#{{1,{len(start[1])}}} ", re.MULTILINE).search(prose, start.end())
    sessions = blocks_in(text[start.end() : end.start() if end else None], "console")
    found = [command for session in sessions for command in commands(session)]
    assert found, f"{page}, {heading}: no commands"
    return found


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"\S", " ", found[0])


def desk(folder: Path) -> Path:
    """A checkout as the guide assumes it: the chart with Milvus' chart in it, and the profiles."""
    helm = folder / "deploy" / "helm"
    helm.mkdir(parents=True)
    shutil.copytree(chart(), helm / "passerby")
    shutil.copytree(PROFILES[0].parent, helm / "profiles")
    return folder


def follow(
    page: str, heading: str, desk: Path, changes: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Runs the section's commands in one shell; (command, what it printed) of each.

    changes: what a reader would put in place of words such as NODE.
    """
    mark = "-- printed --"
    script = ["set -e", f'passerby() {{ {COMMAND_LINE} "$@"; }}']
    typed = [command for command, _ in section(page, heading)]
    for old, new in (changes or {}).items():
        assert any(old in command for command in typed), f"{page}, {heading}: no {old}"
        typed = [command.replace(old, new) for command in typed]
    for command in typed:
        script += [command.rstrip(), f"echo '{mark}'"]
    printed = run("bash", "-c", "\n".join(script), cwd=desk).split(f"{mark}\n")
    return list(zip(typed, printed, strict=False))
