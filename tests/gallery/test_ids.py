"""Ids are hashes that fit Milvus, and a bucket and field say no less than the id."""

from hypothesis import given
from hypothesis import strategies as st

from services.gallery.ids import CANDIDATES, bucket_and_field, candidate_ids

IDS = st.integers(0, 2**63 - 1)


@given(st.text(), st.text())
def test_candidates_are_distinct_63_bit_numbers_and_always_the_same(
    gallery: str, filename: str
) -> None:
    ids = candidate_ids(gallery, filename)
    assert len(set(ids)) == CANDIDATES
    assert all(0 <= id_ < 2**63 for id_ in ids)
    assert ids == candidate_ids(gallery, filename)


def test_galleries_and_filenames_do_not_run_into_each_other() -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "a")]
    ids = [id_ for pair in pairs for id_ in candidate_ids(*pair)]
    assert len(set(ids)) == len(pairs) * CANDIDATES


@given(IDS)
def test_bucket_and_field_give_the_id_back(id_: int) -> None:
    bucket, field = bucket_and_field(id_)
    assert 0 <= bucket < 2**18
    assert (bucket << 45) | int.from_bytes(field, "big") == id_


@given(IDS, IDS)
def test_no_two_ids_share_bucket_and_field(left: int, right: int) -> None:
    assert (bucket_and_field(left) == bucket_and_field(right)) == (left == right)
