"""Does a search in each gallery find something, and is the queue short?"""

from passerby.client import Client
from passerby.cluster.access import Cluster
from passerby.cluster.doctor.finding import Finding, failed, ok, skipped
from passerby.cluster.doctor.peers import QUERY_PORT
from passerby.cluster.doctor.pods import is_ready
from passerby.cluster.port_forward import forwarded
from passerby.counted import counted
from passerby.errors import PasserbyError

# A busy indexer clears this many entries in well under a minute.
_LONG_QUEUE = 1000
_GUIDE = "docs/operations/troubleshooting.md"


def check_searches(cluster: Cluster) -> list[Finding]:
    pod = next((pod for pod in cluster.pods("query") if is_ready(pod)), None)
    if pod is None:
        return [skipped("search", "no pod of query is ready; see above")]
    name = pod.metadata.name
    with forwarded(cluster, name, QUERY_PORT) as address, Client(query=address) as client:
        try:
            return searches(client)
        except PasserbyError as error:
            logs = f"{_GUIDE}#searches-fail; `kubectl -n {cluster.namespace} logs {name}`"
            return [failed("search", str(error), logs)]


def searches(client: Client) -> list[Finding]:
    """Needs no Kubernetes. A search fails if the gallery's collection is not loaded."""
    galleries = client.galleries()
    if not galleries:
        return [skipped("search", "no galleries yet: push one with `passerby push FOLDER`")]
    pending = max(gallery.pending for gallery in galleries)
    waiting = counted(pending, "entry waits", "entries wait")
    if pending > _LONG_QUEUE:
        findings = [
            failed("queue", waiting, f"more indexers or embedders: {_GUIDE}#ingestion-lags")
        ]
    else:
        findings = [ok("queue", waiting)]
    for gallery in galleries:
        if not gallery.count:
            continue
        hits = client.search("a person", gallery=gallery.name, top_k=1)
        detail = f"{gallery.name}: {gallery.count} images, {len(hits)} hit for 'a person'"
        if hits:
            findings.append(ok("search", detail))
        else:
            loaded = f"is its collection loaded? {_GUIDE}#no-hits"
            findings.append(failed("search", detail, loaded))
    return findings
