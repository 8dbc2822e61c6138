"""A pickled vocabulary is words and ranks, or refused before it takes memory or breaks Python."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest

from services.embedder.dcpl.memory import at_most
from services.embedder.dcpl.model_directory import InvalidModel
from services.embedder.dcpl.reference_checkpoint import read_vocabulary

MARK_EMPTY = b"\x80\x04}"
BOMBS = {
    "memo of 64 GiB": MARK_EMPTY + b"r\xff\xff\xff\xff.",
    "bytes of 1 TiB": MARK_EMPTY + b"\x96" + (1 << 40).to_bytes(8, "little") + b"K\x00s.",
    "word of 1 TiB": MARK_EMPTY + b"\x8d" + (1 << 40).to_bytes(8, "little") + b"K\x00s.",
    "nested key": MARK_EMPTY + b")" + b"\x85" * 1_000_000 + b"K\x00s.",
    "number of a million digits": MARK_EMPTY + b"I" + b"9" * 1_000_000 + b"\nK\x00s.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_vocabulary_takes_no_more_memory_than_its_words(tmp_path: Path, bomb: str) -> None:
    (tmp_path / "words.pkl").write_bytes(BOMBS[bomb])
    with at_most(256 << 20), pytest.raises(InvalidModel, match="not a pickled dict"):
        read_vocabulary(tmp_path / "words.pkl")


def test_a_vocabulary_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "words.pkl").touch()
    os.truncate(tmp_path / "words.pkl", 5 << 30)
    with pytest.raises(InvalidModel, match="pickled vocabulary: 5,368,709,120 bytes are more"):
        read_vocabulary(tmp_path / "words.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"man": 0, "a": 2}, "are not 0 to 1, each once"),
        ({"man": 0, "a": 0}, "are not 0 to 1, each once"),
        ({"man": True}, "is not a dict of str to int"),
        ({"man": "0"}, "is not a dict of str to int"),
        ({0: 0}, "is not a dict of str to int"),
        (["man"], "is not a dict of str to int"),
        (OrderedDict(man=0), "could run code"),
    ],
)
def test_a_vocabulary_that_is_not_words_and_ranks_is_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    (tmp_path / "words.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InvalidModel, match=message):
        read_vocabulary(tmp_path / "words.pkl")


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", b"\x80\x04\x95\xff\xff"])
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "words.pkl").write_bytes(content)
    with pytest.raises(InvalidModel, match="not a pickled dict"):
        read_vocabulary(tmp_path / "words.pkl")


def test_a_vocabulary_pickled_by_python_2_is_read(tmp_path: Path) -> None:
    (tmp_path / "words.pkl").write_bytes(pickle.dumps({"man": 0, "a": 1}, protocol=0))
    assert read_vocabulary(tmp_path / "words.pkl").words == ("man", "a")
