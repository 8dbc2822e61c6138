"""How clients and services call each other: balanced over pods, retried while one restarts."""

import json

# A batch of 256 large photographs fits; a caller with more must split it.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

MESSAGE_LIMITS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

# A server that stops cancels calls that it has not taken up.
_RETRYABLE = ["UNAVAILABLE", "CANCELLED"]

SERVICE_CONFIG = {
    # A connection stays with one pod; over all addresses of a headless service calls balance.
    "loadBalancingConfig": [{"round_robin": {}}],
    # A budget: each attempt that fails takes a token, each call that succeeds brings half of one,
    # and below half of them nothing is retried. A replica that restarts costs a few; where nothing
    # answers any more, or all is overloaded, calls are not made five times as many.
    "retryThrottling": {"maxTokens": 200, "tokenRatio": 0.5},
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                # Together 2 s, much longer than a reconnect: while one replica stops, the other may
                # have only just come back.
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": _RETRYABLE,
            },
        },
        # What ended one embedder would end the next ones.
        {
            "name": [{"service": "passerby.v1.Embedder", "method": "EmbedImages"}],
            "retryPolicy": {
                "maxAttempts": 2,
                "initialBackoff": "0.5s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": _RETRYABLE,
            },
        },
        # A push that gets no answer goes on without one.
        {"name": [{"service": "passerby.v1.Search", "method": "FindMissing"}]},
    ],
}

CHANNEL_OPTIONS: list[tuple[str, int | str]] = [
    *MESSAGE_LIMITS,
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # By default a call of more than 256 KiB, which most calls with images are, is never retried.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    # A peer that falls silent (its node is lost) refuses nothing: calls would wait for their whole
    # deadline. Its connection is given up, and the calls retried elsewhere, when it acknowledges no
    # data for 1.5 s (the timeout, which TCP gets too on Linux; a long line may lose a packet) or
    # no ping for five seconds: a ping has to wait its turn behind an image on a slow line.
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_500),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # By default the third ping without data is sent a minute later.
    ("grpc.http2.max_pings_without_data", 0),
    # Of one attempt to connect. The default is 20 seconds: the address of a Service leads to some
    # other pod at the next attempt.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # The default is two minutes: a restarted replica would be found that late.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
    # The default is 30 seconds, in which a rollout replaces all pods: once the old ones were gone,
    # every call failed until DNS was asked again.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
]
