"""values.schema.json: names, types and descriptions from values.yaml, and the rules for each.

What holds between two values stands in the chart's validation.yaml, which says it in words.
"""

from typing import Any

Schema = dict[str, Any]
# (value, its default, its meaning), for each value of values.yaml.
Rows = list[tuple[str, Any, str]]

OBJECT: Schema = {"type": "object"}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"minimum": 1}
PERCENT: Schema = {"minimum": 1, "maximum": 100}
# Of an object of Kubernetes that is not made by this chart; empty: none.
NAME: Schema = {"pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}
# Of a Secret.
KEY: Schema = {"pattern": "^[-._a-zA-Z0-9]+$"}
# What objects are called after; 53 characters leave room for "-embedder" in a label of DNS.
OVERRIDE: Schema = {"pattern": "^([a-z]([-a-z0-9]{0,51}[a-z0-9])?)?$"}
# What the API server takes: it would refuse the rest when half a release is made.
_KEY = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_LABEL = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_LABEL_OF_DNS = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST = f"(\\*\\.)?{_LABEL_OF_DNS}(\\.{_LABEL_OF_DNS})*"
ANNOTATIONS: Schema = {
    "type": "object",
    "propertyNames": {"pattern": _KEY},
    "additionalProperties": TEXT,
}
LABELS: Schema = {**ANNOTATIONS, "additionalProperties": {"type": "string", "pattern": _LABEL}}
QUANTITY: Schema = {"pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"}
QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number"], **QUANTITY},
}
S3: Schema = {"pattern": "^(s3://[^/]+(/.*)?)?$"}
IMAGE: Schema = {"pattern": "^[a-z0-9][^ ]*$"}


def exactly(*names: str, **properties: Schema) -> Schema:
    """An object with these properties only; those of `names` may be anything."""
    allowed: Schema = {**{name: {} for name in names}, **properties}
    return {"type": "object", "additionalProperties": False, "properties": allowed}


def some(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def having(*names: str, **properties: Schema) -> Schema:
    """An object with these, among others; `properties` says more of some."""
    return {"type": "object", "required": list(names), "properties": properties}


def one_of(*choices: str) -> Schema:
    return {"enum": list(choices)}


SELECTOR = exactly("matchExpressions", matchLabels=LABELS)
PEERS = some(
    {
        **exactly(podSelector=SELECTOR, namespaceSelector=SELECTOR, ipBlock=having("cidr")),
        "minProperties": 1,
    }
)
TOLERATION = exactly(
    key=TEXT,
    operator=TEXT,
    value=TEXT,
    effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
    tolerationSeconds={"type": "integer"},
)
SPREAD = having(
    *("maxSkew", "topologyKey", "whenUnsatisfiable"),
    maxSkew={"type": "integer", **COUNT},
    topologyKey=TEXT,
    whenUnsatisfiable=one_of("DoNotSchedule", "ScheduleAnyway"),
    labelSelector=SELECTOR,
)
VARIABLE = {
    **exactly(
        name={"type": "string", "pattern": "^[-._A-Za-z][-._A-Za-z0-9]*$"},
        value=TEXT,
        valueFrom=OBJECT,
    ),
    "required": ["name"],
}
VOLUME = {"type": "string", "pattern": f"^{_LABEL_OF_DNS}$"}
MOUNT = having("name", "mountPath", name=VOLUME, mountPath={"type": "string", "pattern": "^/"})
GATEWAY = having("name", name=TEXT, namespace=TEXT, sectionName=TEXT, port={"type": "integer"})
# By a value's path, or by its last name after "*.".
RULES: dict[str, Schema] = {
    "nameOverride": OVERRIDE,
    "fullnameOverride": OVERRIDE,
    "commonLabels": LABELS,
    "imagePullSecrets": some({**exactly(name={"type": "string", **NAME}), "required": ["name"]}),
    "image.registry": {"pattern": "^([^:/ ]+(:[0-9]+)?(/[^ ]*[^/ ])?)?$"},
    "image.tag": {"pattern": "^[A-Za-z0-9_.-]*$"},
    "image.pullPolicy": one_of("Always", "IfNotPresent", "Never"),
    "*.digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "*.annotations": ANNOTATIONS,
    "*.resources": exactly(requests=QUANTITIES, limits=QUANTITIES),
    "*.nodeSelector": LABELS,
    "*.tolerations": some(TOLERATION),
    "*.tolerationSeconds": {"type": ["integer", "null"]},
    "*.affinity": exactly("nodeAffinity", "podAffinity", "podAntiAffinity"),
    "*.topologySpreadConstraints": some(SPREAD),
    "*.priorityClassName": NAME,
    "*.podAnnotations": ANNOTATIONS,
    "*.podLabels": LABELS,
    "query.allowedHosts": some({"type": "string", "pattern": f"^(\\*|{_HOST})$"}),
    "tracing.endpoint": {"pattern": "^(https?://[^/]+:[0-9]+/?)?$"},
    "*.extraEnv": some(VARIABLE),
    "*.extraEnvFrom": some(
        exactly(prefix=TEXT, secretRef=having("name"), configMapRef=having("name"))
    ),
    "*.extraVolumes": some(having("name", name=VOLUME)),
    "*.extraVolumeMounts": some(MOUNT),
    "*.extraInitContainers": some(having("name", "image", name=VOLUME, image=TEXT)),
    # What it leaves to drain is at least a second.
    "*.terminationGracePeriodSeconds": {"minimum": 11, "maximum": 3610},
    "*.existingSecret": NAME,
    "*.existingSecretPasswordKey": KEY,
    "*.existingSecretTokenKey": KEY,
    "*.existingClaim": NAME,
    "*.storageClass": NAME,
    "*.size": QUANTITY,
    "*.minReplicas": COUNT,
    "*.maxReplicas": COUNT,
    "*.cpuPercent": PERCENT,
    "embedder.maxSurge": {"maximum": 10},
    "embedder.minReadySeconds": {"maximum": 600},
    "embedder.gpu.resource": {"pattern": "^nvidia\\.com/[A-Za-z0-9._-]+$"},
    "embedder.gpu.count": {"minimum": 1, "maximum": 8},
    "embedder.gpu.runtimeClassName": NAME,
    "embedder.model.source": one_of("image", "claim", "oci", "s3"),
    "embedder.model.names": some(
        {
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
        },
        uniqueItems=True,
    ),
    "embedder.model.uri": S3,
    "embedder.model.fetcher": IMAGE,
    "embedder.autoscaling.metric": {"pattern": "^[a-zA-Z0-9_:]*$"},
    "embedder.autoscaling.metricTarget": COUNT,
    "indexer.autoscaling.entriesPerReplica": COUNT,
    "query.service.type": one_of("ClusterIP", "NodePort", "LoadBalancer"),
    "images.store": one_of("claim", "s3", "none"),
    "images.uri": S3,
    "images.claim.accessMode": one_of("ReadWriteOnce", "ReadWriteMany"),
    "s3.endpoint": {"pattern": "^(https?://[^/]+)?$"},
    "redis.image": IMAGE,
    "redis.maxMemory": {"pattern": "^[0-9]+(k|kb|m|mb|g|gb)$"},
    "externalRedis.url": {"pattern": "^(rediss?://([^:@/]+@)?[^:@/]+:[0-9]+(/[0-9]+)?)?$"},
    "externalMilvus.uri": {"pattern": "^(https?://[^:@/]+:[0-9]+/?)?$"},
    "ingress.className": NAME,
    "ingress.host": {"pattern": f"^({_HOST})?$"},
    "ingress.tlsSecret": NAME,
    "httpRoute.parentRefs": some(GATEWAY),
    "httpRoute.hostnames": some({"type": "string", "pattern": f"^{_HOST}$"}),
    "networkPolicy.searchFrom": PEERS,
    "networkPolicy.pushFrom": PEERS,
    "networkPolicy.kedaFrom": {**PEERS, "minItems": 1},
    "networkPolicy.scrapeFrom": PEERS,
    "monitoring.labels": LABELS,
    # Of version 0.1.0, where the form was another one.
    "image.pullSecrets": some({"type": "string", "minLength": 1}),
    "*.drainSeconds": {"minimum": 1, "maximum": 3600},
}
# A chart within ours checks its own values.
OPEN = ("milvus",)


def schema(rows: Rows, renamed: dict[str, str], settings: dict[str, Schema]) -> Schema:
    """The JSON Schema of the whole of values.yaml.

    renamed: name of a value in the last version -> its name now; both are taken.
    settings: place of a map of settings -> what may stand in it.
    """
    root = {"title": "Values of the Passerby chart", **exactly()}
    root["properties"]["global"] = OBJECT
    described = {name: _value(name, default, meaning) for name, default, meaning in rows}
    for name, value in described.items():
        if not name.startswith(OPEN):
            _put(root, name, value | settings.get(name, {}))
    for name in OPEN:
        _put(root, f"{name}.enabled", described[f"{name}.enabled"])
        root["properties"][name]["additionalProperties"] = True
    for old, new in renamed.items():
        value = {**described[new], **_rule(old), "description": f"Now `{new}`."}
        _put(root, old, {**value, "deprecated": True})
    # Where it is missing, all that is new is, and the chart says why: --reuse-values.
    return {**root, "if": {"required": ["selftest"]}, "then": _present(rows)}


def _value(name: str, default: Any, meaning: str) -> Schema:
    return {"description": meaning, **_type(default), **_rule(name)}


def _rule(name: str) -> Schema:
    return RULES.get(name) or RULES.get(f"*.{name.rpartition('.')[2]}", {})


def _type(default: Any) -> Schema:
    match default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 0}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
    return OBJECT


def _put(root: Schema, name: str, value: Schema) -> None:
    node = root
    *sections, last = name.split(".")
    for section in sections:
        node = node["properties"].setdefault(section, exactly())
    node["properties"][last] = value


def _present(rows: Rows) -> Schema:
    """Null takes a default away, as does a section without content; these must be there."""
    root: Schema = {"required": [], "properties": {}}
    for name, default, _ in rows:
        if name.startswith(OPEN) and name not in (f"{chart}.enabled" for chart in OPEN):
            continue
        *sections, last = name.split(".")
        node = root
        for section in sections:
            node["required"] = sorted({*node["required"], section})
            node = node["properties"].setdefault(section, {"required": [], "properties": {}})
        may_be_null = "null" in _rule(name).get("type", ()) or isinstance(default, dict)
        if default not in ("", [], None) and not may_be_null:
            node["required"].append(last)
    return root
