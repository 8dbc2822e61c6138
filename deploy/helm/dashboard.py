"""The Grafana dashboard: what each panel shows, and the JSON that Grafana reads."""

from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["short", "s", "ops", "percentunit", "bytes"]

# Grafana fills in what its variables are set to; `.*` also takes series without a namespace.
OF = 'namespace=~"$namespace"'
BY_GRPC = f'{OF},method="Search"'
BY_HTTP = f'{OF},route="/v1/search"'
FAILED_GRPC = f'{BY_GRPC},code=~"INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED"'
FAILED_HTTP = f'{BY_HTTP},status=~"5.."'
SPAN = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    title: str
    unit: Unit
    lines: dict[str, str]
    """Legend -> expression; what Grafana puts in for {{label}} comes from the series."""
    description: str = ""


def rate(metric: str, of: str = OF) -> str:
    return f"rate({metric}{{{of}}}[{SPAN}])"


def total(metric: str, by: str = "", of: str = OF) -> str:
    return f"sum{f' by ({by})' if by else ''} ({rate(metric, of)})"


def quantile(share: float, buckets: str, by: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{by and ', ' + by}) ({buckets}))"


def mean(metric: str, by: str) -> str:
    return f"{total(f'{metric}_sum', by)} / {total(f'{metric}_count', by)}"


def either(suffix: str, by_grpc: str, by_http: str) -> str:
    """Searches by gRPC and by HTTP: no series of one has the labels of the other."""
    grpc = rate(f"passerby_rpc_seconds_{suffix}", by_grpc)
    return f"{grpc} or {rate(f'passerby_http_seconds_{suffix}', by_http)}"


ANSWERED = either("bucket", f'{BY_GRPC},code="OK"', f'{BY_HTTP},status=~"2.."')
ROWS: dict[str, list[Panel]] = {
    "Searches": [
        Panel(
            "Searches",
            "ops",
            {
                "gRPC {{code}}": total("passerby_rpc_seconds_count", "code", BY_GRPC),
                "HTTP {{status}}": total("passerby_http_seconds_count", "status", BY_HTTP),
            },
        ),
        Panel(
            "Searches that fail",
            "percentunit",
            {
                "failed": f"(sum({either('count', FAILED_GRPC, FAILED_HTTP)}) or vector(0))"
                f" / sum({either('count', BY_GRPC, BY_HTTP)})",
            },
            "By a fault of the service, not of the caller.",
        ),
        Panel(
            "Time of a search",
            "s",
            {f"p{share * 100:.0f}": quantile(share, ANSWERED) for share in (0.5, 0.95, 0.99)},
            "Of those that are answered. Each example leads to its trace.",
        ),
        Panel(
            "Time by step (p95)",
            "s",
            {"{{step}}": quantile(0.95, rate("passerby_search_step_seconds_bucket"), "step")},
            "embed: caption or image to vector; search: vector to ids; resolve: ids to filenames.",
        ),
    ],
    "Ingestion": [
        Panel(
            "Entries in the queue",
            "short",
            {
                "not acknowledged": f"max(passerby_queue_entries{{{OF}}})",
                "in flight": f"max(passerby_queue_pending{{{OF}}})",
            },
        ),
        Panel(
            "Age of the oldest entry",
            "s",
            {"oldest": f"max(passerby_queue_oldest_seconds{{{OF}}})"},
        ),
        Panel("Images indexed", "ops", {"images": total("passerby_indexer_images_total")}),
        Panel(
            "Time of a batch by stage (p95)",
            "s",
            {"{{stage}}": quantile(0.95, rate("passerby_indexer_stage_seconds_bucket"), "stage")},
        ),
        Panel(
            "Dead letters",
            "short",
            {"in an hour": f"sum(increase(passerby_indexer_dead_letters_total{{{OF}}}[1h]))"},
        ),
        Panel(
            "Waiting for others",
            "ops",
            {
                "attempts retried": total("passerby_indexer_retries_total"),
                "entries postponed": total("passerby_indexer_postponed_total"),
            },
            "Retried: Redis, Milvus or the embedder was away or full. Postponed: the storage of a "
            "uri was.",
        ),
    ],
    "Embedder": [
        Panel(
            "Embedded",
            "ops",
            {"{{modality}}": total("passerby_embedder_embedded_total", "modality")},
        ),
        Panel(
            "Refused, by reason",
            "ops",
            {"{{reason}}": total("passerby_embedder_refused_total", "reason")},
        ),
        Panel(
            "Items in a batch (mean)",
            "short",
            {"{{modality}}": mean("passerby_embedder_batch_items", "modality")},
        ),
        Panel(
            "Wait and forward pass (p95)",
            "s",
            {
                "wait, {{modality}}": quantile(
                    0.95, rate("passerby_embedder_wait_seconds_bucket"), "modality"
                ),
                "forward, {{modality}}": quantile(
                    0.95, rate("passerby_embedder_forward_seconds_bucket"), "modality"
                ),
            },
        ),
        Panel(
            "Items in hand",
            "short",
            {"{{modality}}": f"sum by (modality) (passerby_embedder_in_hand{{{OF}}})"},
            "Accepted and not answered yet.",
        ),
        Panel(
            "GPU memory",
            "bytes",
            {"{{pod}} {{kind}}": f"passerby_embedder_gpu_memory_bytes{{{OF}}}"},
            "Used by anybody on the GPU, and all that it has. Empty on CPUs.",
        ),
    ],
    "Milvus and Redis": [
        Panel(
            "Calls",
            "ops",
            {"{{store}} {{call}}": total("passerby_store_seconds_count", "store, call")},
        ),
        Panel(
            "Time of a call (p95)",
            "s",
            {
                "{{store}} {{call}}": quantile(
                    0.95, rate("passerby_store_seconds_bucket"), "store, call"
                )
            },
        ),
        Panel(
            "Dependencies that answer",
            "short",
            {"{{pod}}: {{dependency}}": f"passerby_dependency_up{{{OF}}}"},
            "1 while the service reaches it, else 0.",
        ),
        Panel(
            "Ready", "short", {"{{pod}}": f"passerby_ready{{{OF}}}"}, "1 while a service can work."
        ),
    ],
}

_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


def dashboard() -> dict[str, Any]:
    """Grafana's JSON; a panel asks the data source and the namespaces that are chosen above it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, of_row in ROWS.items():
        place = {"x": 0, "y": top, "w": _WIDTH * _COLUMNS, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": place, "panels": []})
        top += 1
        for number, panel in enumerate(of_row):
            row, column = divmod(number, _COLUMNS)
            place = {"x": column * _WIDTH, "y": top + row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(panel, place))
        top += _HEIGHT * -(-len(of_row) // _COLUMNS)
    return {
        "uid": "passerby",
        "title": "Passerby",
        "tags": ["passerby"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_SOURCE, _NAMESPACE]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


_PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
_SOURCE = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
}
_NAMESPACE = {
    "name": "namespace",
    "label": "Namespace",
    "type": "query",
    "datasource": _PROMETHEUS,
    "query": "label_values(passerby_ready, namespace)",
    "refresh": 2,
    "includeAll": True,
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all"},
}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": _PROMETHEUS,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"showLegend": True}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _PROMETHEUS,
                "expr": expression,
                "legendFormat": legend,
                "exemplar": "_bucket" in expression,
            }
            for number, (legend, expression) in enumerate(panel.lines.items())
        ],
    }
