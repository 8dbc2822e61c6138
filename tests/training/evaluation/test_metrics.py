"""Rank-k, mAP, mINP, ties, chance and intervals against values worked out by hand."""

import pytest
import torch

from training.evaluation.metrics import (
    QUERIES_AT_ONCE,
    QueryResults,
    bootstrap,
    chance_rank,
    pessimistic_order,
    rank_queries,
    summarise,
)


def ranked(scores: list[float], right: list[bool]) -> QueryResults:
    """One query against a gallery of such scores; the right entries are of its identity 1."""
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[score, (1 - score**2) ** 0.5] for score in scores])
    return rank_queries(query, gallery, torch.tensor([1]), torch.tensor(right).long())


def test_figures_are_those_worked_out_by_hand() -> None:
    results = ranked([0.6, 0.9, 0.8, 0.7], [True, False, True, False])
    assert results.first_rank.tolist() == [2]
    assert results.average_precision.item() == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert results.inverse_negative_penalty.item() == pytest.approx(2 / 4)


def test_a_perfect_answer_reaches_one_everywhere() -> None:
    results = ranked([0.9, 0.8, 0.1], [True, True, False])
    assert results.first_rank.item() == 1
    assert results.average_precision.item() == 1
    assert results.inverse_negative_penalty.item() == 1


def test_a_tie_counts_against_the_model_wherever_the_right_entry_is_stored() -> None:
    for place in range(3):
        right = [i == place for i in range(3)]
        assert ranked([0.5, 0.5, 0.5], right).first_rank.item() == 3


def test_equal_scores_put_wrong_entries_first() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.5, 0.1]])
    right = torch.tensor([[True, False, False, True]])
    assert pessimistic_order(scores, right).tolist() == [[1, 2, 0, 3]]


def test_rank_k_counts_the_queries_whose_first_right_entry_is_that_high() -> None:
    queries = QueryResults(
        first_rank=torch.tensor([1, 2, 6, 11]),
        average_precision=torch.tensor([1, 0.5, 0.25, 0.25]).double(),
        inverse_negative_penalty=torch.tensor([1, 0.5, 0.1, 0.0]).double(),
    )
    found = summarise(queries)
    assert (found.rank_1, found.rank_5, found.rank_10, found.rank_12) == (25, 50, 75, 100)
    assert found.mean_average_precision == pytest.approx(100 * 2 / 4)
    assert found.mean_inverse_negative_penalty == pytest.approx(100 * 1.6 / 4)
    assert found.queries == 4


def test_blocks_of_queries_make_no_difference() -> None:
    torch.manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(QUERIES_AT_ONCE + 3, 4))
    gallery = torch.nn.functional.normalize(torch.randn(20, 4))
    identities, stored = torch.arange(len(queries)) % 5, torch.arange(20) % 5
    whole = rank_queries(queries, gallery, identities, stored)
    last = rank_queries(queries[-3:], gallery, identities[-3:], stored)
    assert whole.first_rank[-3:].tolist() == last.first_rank.tolist()
    assert whole.average_precision[-3:].tolist() == last.average_precision.tolist()


def test_a_query_without_a_right_entry_is_refused() -> None:
    vectors = torch.eye(2)
    with pytest.raises(ValueError, match="1 identities are asked for but not in the gallery"):
        rank_queries(vectors, vectors, torch.tensor([0, 7]), torch.tensor([0, 1]))


def test_chance_is_what_drawing_without_replacement_gives() -> None:
    # Of 5 entries 2 are right: the first is right with 2/5, one of the first two with
    # 1 - 3/5 x 2/4, and four always hold one.
    query, gallery = torch.tensor([1]), torch.tensor([1, 1, 0, 0, 0])
    assert chance_rank(query, gallery, 1) == pytest.approx(100 * 2 / 5)
    assert chance_rank(query, gallery, 2) == pytest.approx(100 * (1 - 3 / 5 * 2 / 4))
    assert chance_rank(query, gallery, 4) == pytest.approx(100)
    assert chance_rank(query, gallery, 50) == pytest.approx(100)


def results_of(first_rank: torch.Tensor) -> QueryResults:
    return QueryResults(first_rank, 1 / first_rank.double(), 1 / first_rank.double())


def test_intervals_hold_the_mean_and_shrink_with_more_people() -> None:
    def width(people: int) -> float:
        first_rank = 1 + torch.arange(people) % 2
        interval = bootstrap(results_of(first_rank), torch.arange(people))["rank_1"]
        assert interval.low <= 50 <= interval.high
        return interval.high - interval.low

    # Half of the queries right: 2 x 1.96 x sqrt(0.25 / people).
    assert width(100) == pytest.approx(2 * 1.96 * 100 * (0.25 / 100) ** 0.5, rel=0.15)
    assert width(400) == pytest.approx(width(100) / 2, rel=0.2)


def test_repeating_a_persons_query_does_not_narrow_the_interval() -> None:
    first_rank = 1 + torch.arange(50) % 2
    once = bootstrap(results_of(first_rank), torch.arange(50))["rank_1"]
    repeated = results_of(first_rank.repeat_interleave(8))
    eight = bootstrap(repeated, torch.arange(50).repeat_interleave(8))["rank_1"]
    assert eight == once


def test_a_certain_answer_has_an_interval_of_one_point() -> None:
    interval = bootstrap(results_of(torch.ones(10).long()), torch.arange(10))["rank_1"]
    assert (interval.low, interval.high) == (100, 100)
