"""What a check found out."""

from dataclasses import dataclass
from typing import Literal

from passerby.cluster.access import ClusterError

Verdict = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One row of the table: what was checked, what was found, what to do."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    return Finding(check, "ok", detail)


def failed(check: str, detail: str, remedy: str) -> Finding:
    """detail: what Kubernetes and programs say has lines of its own; here it becomes one."""
    return Finding(check, "failed", " ".join(detail.split()), remedy)


def not_examined(check: str, error: ClusterError) -> Finding:
    """The cluster does not answer or does not allow it; the error says what to do."""
    return failed(check, str(error).split(": ")[0], str(error))


def skipped(check: str, detail: str) -> Finding:
    return Finding(check, "skipped", detail)
