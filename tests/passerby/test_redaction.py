"""No secret is shown: of URLs, of signed ones, of what names itself a secret."""

import pytest

from passerby.redaction import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:hush@redis:6379/0", "redis://user:***@redis:6379/0"),
        ("redis://:hush@redis:6379/0", "redis://:***@redis:6379/0"),
        ("redis://u:hu/s@h@redis/0", "redis://u:***@redis/0"),
        ("https://hush@git.example/x", "https://***@git.example/x"),
        ("redis://redis/0?password=hush", "redis://redis/0?***"),
        (
            "https://s3.example/b/k.jpg?X-Amz-Credential=a&X-Amz-Signature=hush cannot be read",
            "https://s3.example/b/k.jpg?*** cannot be read",
        ),
        ('{"uri": "gs://b/k?sig=hush", "n": 1}', '{"uri": "gs://b/k?***", "n": 1}'),
        ("two: a://u:hush@h and b://v:hush@i?x=hush", "two: a://u:***@h and b://v:***@i?***"),
        ("password=hush rejected", "password=*** rejected"),
        ("REDIS_PASSWORD='hush'", "REDIS_PASSWORD='***'"),
        ("aws_secret_access_key = hush", "aws_secret_access_key = ***"),
        ("MILVUS_TOKEN=root:hush", "MILVUS_TOKEN=***"),
        ("Authorization: Bearer hushhushhush", "Authorization: Bearer ***"),
    ],
)
def test_a_secret_is_taken_out(text: str, shown: str) -> None:
    assert "hush" not in redacted(text)
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://milvus:19530 cannot be reached: 10.0.0.7:19530",
        "unknown token <unk>; did you mean password?",
        "gallery people has 3 images at /folder/a?b.jpg",
        "Host 'a@b' is not a name of this server",
        "basic training",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
