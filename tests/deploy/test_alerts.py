"""Alerts: each fires for its cause, after its time, and for nothing else.

PROMTOOL names Prometheus's own program; with it every case here is tried on the rendered rules.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support.chart import NAMESPACE, SINGLE, Object, objects, of_kind
from tests.support.processes import REPOSITORY

INDEXER, EMBEDDER, QUERY = (
    f'namespace="{NAMESPACE}",service="passerby-{service}",pod="p"'
    for service in ("indexer", "embedder", "metrics")
)
QUEUE = f"passerby_queue_entries{{{INDEXER}}}"
FINISHED = f"passerby_indexer_entries_total{{{INDEXER}}}"
ALWAYS = {
    f"up{{{INDEXER}}}": "1x60",
    f"passerby_ready{{{QUERY}}}": "1x60",
    QUEUE: "0x60",
    FINISHED: "0x60",
}


def searches(le: str, **labels: str) -> str:
    said = "".join(f',{name}="{value}"' for name, value in labels.items())
    kind = "rpc" if "code" in labels else "http"
    return f'passerby_{kind}_seconds_bucket{{{QUERY}{said},le="{le}"}}'


def timed(*, slow: bool, **labels: str) -> dict[str, str]:
    """Ten searches a minute, which take 0.1 or 5 seconds."""
    return {
        searches(le, **labels): "0+0x60" if slow and float(le) < 5 else "0+10x60"
        for le in ("0.5", "1", "5", "+Inf")
    }


GRPC_OK = {"method": "Search", "code": "OK"}
GRPC_AWAY = {"method": "Search", "code": "UNAVAILABLE"}
HTTP_OK = {"route": "/v1/search", "status": "200"}
HTTP_AWAY = {"route": "/v1/search", "status": "503"}


def refused(reason: str) -> dict[str, str]:
    return {f'passerby_embedder_refused_total{{{EMBEDDER},reason="{reason}"}}': "0+60x60"}


def pods(wanted: str, *, ready: str) -> dict[str, str]:
    """As kube-state-metrics counts those of query, and of somebody else's Deployment."""
    ours, other = (
        f'{{namespace="{NAMESPACE}",deployment="{name}"}}' for name in ("passerby-query", "x")
    )
    return {
        f"kube_deployment_spec_replicas{ours}": wanted,
        f"kube_deployment_status_replicas_available{ours}": ready,
        f"kube_deployment_spec_replicas{other}": "1x60",
        f"kube_deployment_status_replicas_available{other}": "0x60",
    }


@dataclass(frozen=True)
class Case:
    """What is measured, a sample each minute, on top of what always is; who fires at a minute."""

    name: str
    minute: int
    fires: set[str]
    series: dict[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


STANDS = {"PasserbyIngestionStands"}
CASES = [
    Case("all is well", 59, set(), timed(slow=False, **GRPC_OK) | timed(slow=False, **HTTP_OK)),
    Case("a pod cannot be scraped", 10, {"PasserbyDown"}, {f"up{{{INDEXER}}}": "0x60"}),
    Case("no query is ready", 10, {"PasserbyNotReady"}, {f"passerby_ready{{{QUERY}}}": "0x60"}),
    Case("no query is there", 10, {"PasserbyNotReady"}, gone=(f"passerby_ready{{{QUERY}}}",)),
    Case("pods wait", 24, {"PasserbyPodsMissing"}, pods("4x60", ready="4x5 2x55")),
    Case("pods wait, not yet", 16, set(), pods("4x60", ready="4x5 2x55")),
    Case("pods start", 59, set(), pods("4x60", ready="2x10 4x50")),
    # Entries reach a queue that was idle for half an hour.
    Case("6 minutes", 37, set(), {QUEUE: "0x30 5x30"}),
    Case("14 minutes", 45, set(), {QUEUE: "0x30 5x30"}),
    Case("a quarter of an hour", 47, STANDS, {QUEUE: "0x30 5x30"}),
    Case("it is worked on", 59, set(), {QUEUE: "5x60", FINISHED: "0+1x60"}),
    Case("no indexer, not yet", 14, set(), gone=(QUEUE, FINISHED)),
    Case("no indexer", 16, STANDS, gone=(QUEUE, FINISHED)),
    # It stood for 10 minutes; then its indexer went, and its last value counts for 5 more.
    Case("cause by cause", 22, STANDS, {QUEUE: "5x10 stale", FINISHED: "0x10 stale"}),
    Case("a dead letter", 5, {"PasserbyDeadLetters"}, {
        f"passerby_indexer_dead_letters_total{{{INDEXER}}}": "0x2 1x60"
    }),
    Case("broken images", 59, set(), refused("invalid")),
    Case("callers that left", 59, set(), refused("abandoned")),
    Case("overloaded", 20, {"PasserbyEmbedderFull"}, refused("overloaded")),
    Case("overloaded, not yet", 14, set(), refused("overloaded")),
    Case("slow by gRPC", 25, {"PasserbySearchesSlow"}, timed(slow=True, **GRPC_OK)),
    Case("slow by HTTP", 25, {"PasserbySearchesSlow"}, timed(slow=True, **HTTP_OK)),
    Case("slow to fail", 25, set(), {
        **timed(slow=False, **GRPC_OK), **timed(slow=True, **GRPC_AWAY),
        **timed(slow=True, **HTTP_AWAY),
    }),
    Case("they fail", 11, {"PasserbySearchesFail"}, {
        f'passerby_rpc_seconds_count{{{QUERY},method="Search",code="OK"}}': "0+60x60",
        f'passerby_rpc_seconds_count{{{QUERY},method="Search",code="UNAVAILABLE"}}': "0+6x60",
    }),
    Case("the caller's fault", 59, set(), {
        f'passerby_rpc_seconds_count{{{QUERY},method="Search",code="OK"}}': "0+60x60",
        f'passerby_rpc_seconds_count{{{QUERY},method="Search",code="NOT_FOUND"}}': "0+6x60",
    }),
]  # fmt: skip


def rules() -> list[Object]:
    (group,) = of_kind(objects(SINGLE["monitored"]), "PrometheusRule")[0]["spec"]["groups"]
    found: list[Object] = group["rules"]
    return found


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert {rule["alert"] for rule in rules()} == set().union(*(case.fires for case in CASES))


def test_an_alert_says_whose_it_is() -> None:
    """What sums or counts over pods has no namespace otherwise."""
    whose = {"namespace": NAMESPACE, "release": "passerby"}
    assert [rule["alert"] for rule in rules() if not whose.items() <= rule["labels"].items()] == []


def test_the_guide_has_every_alert_with_its_time() -> None:
    guide = (REPOSITORY / "docs/operations/telemetry.md").read_text()
    rows = re.findall(r"^\| `(Passerby\w+)` \| (\w+) \| (\d+) \|", guide, re.MULTILINE)
    times = {
        (rule["alert"], rule["labels"]["severity"], rule.get("for", "0m").removesuffix("m"))
        for rule in rules()
    }
    assert set(rows) == times


@pytest.mark.parametrize(
    ("alert", "selected"),
    [
        ("PasserbyEmbedderFull", ['passerby_embedder_refused_total{OF,reason="overloaded"}']),
        (
            "PasserbySearchesSlow",
            [
                'passerby_rpc_seconds_bucket{OF,method="Search",code="OK"}',
                'passerby_http_seconds_bucket{OF,route="/v1/search",status=~"2.."}',
            ],
        ),
        ("PasserbyIngestionStands", ["or sum(absent(passerby_queue_entries{OF}))"]),
    ],
)
def test_an_alert_asks_for_its_own_cause(alert: str, selected: list[str]) -> None:
    (rule,) = [rule for rule in rules() if rule["alert"] == alert]
    asked = re.sub(r'namespace="[^"]*",service=~?"[^"]*"', "OF", rule["expr"])
    for part in selected:
        assert part in asked


if "PROMTOOL" in os.environ:

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_who_fires(case: Case, tmp_path: Path) -> None:
        (tmp_path / "rules.yaml").write_text(
            yaml.safe_dump({"groups": [{"name": "passerby", "rules": rules()}]})
        )
        series = {name: v for name, v in (ALWAYS | case.series).items() if name not in case.gone}
        fires = [
            # How many fire; their labels are other tests' business.
            {
                "expr": f'count(ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}})',
                "eval_time": f"{case.minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}] * (rule["alert"] in case.fires),
            }
            for rule in rules()
        ]
        test = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": n, "values": v} for n, v in series.items()],
                    "promql_expr_test": fires,
                }
            ],
        }
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
        done = subprocess.run(
            [os.environ["PROMTOOL"], "test", "rules", "test.yaml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
