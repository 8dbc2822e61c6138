"""Retrieval metrics as the field reports them: Rank-k, mAP and mINP, as pure functions.

A query's answer is the gallery ranked by similarity. Ties are broken against the model: among
equal scores the wrong entries come first. So a model that scores everything alike gets the
worst figures instead of those of the order in which the gallery happens to be stored, and no
figure depends on that order.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

RANKS = (1, 5, 10, 12)
QUERIES_AT_ONCE = 256  # bounds memory: a block of 256 x 100,000 scores is 100 MB


@dataclass(frozen=True)
class QueryResults:
    """What each query reached; all (queries,) and in the order of the queries."""

    first_rank: Tensor
    """Rank of the first right entry, counted from 1; int64."""
    average_precision: Tensor
    """Mean over the right entries of (right entries so far / rank); float64."""
    inverse_negative_penalty: Tensor
    """Number of right entries / rank of the last one; float64."""


@dataclass(frozen=True)
class Retrieval:
    """Means over the queries, in percent; rank_12 is the first page of the product."""

    rank_1: float
    rank_5: float
    rank_10: float
    rank_12: float
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    queries: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Interval:
    """Bounds of a two-sided confidence interval, in percent."""

    low: float
    high: float


def rank_queries(
    queries: Tensor, gallery: Tensor, query_identities: Tensor, gallery_identities: Tensor
) -> QueryResults:
    """Rank the gallery for each query by cosine similarity.

    queries: (queries, dimension), gallery: (entries, dimension), both float and L2-normalised;
    identities: (queries,) and (entries,) int64, on the device of the vectors. Every query's
    identity must be in the gallery, or ValueError.

        scores 0.9 0.8 0.7 0.6 with right entries at 0.8 and 0.6:
        first rank 2, average precision (1/2 + 2/4) / 2, inverse negative penalty 2/4
    """
    missing = set(query_identities.tolist()) - set(gallery_identities.tolist())
    if missing:
        raise ValueError(
            f"{len(missing)} identities are asked for but not in the gallery, such as "
            f"{min(missing)}; leave their queries out"
        )
    blocks = [
        _rank_block(scores, query_identities[rows, None] == gallery_identities)
        for rows, scores in _score_blocks(queries, gallery)
    ]
    columns = zip(*blocks, strict=True)
    return QueryResults(*(torch.cat(column).cpu() for column in columns))


def _score_blocks(queries: Tensor, gallery: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        yield rows, queries[rows].float() @ gallery.float().T


def _rank_block(scores: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """scores: (queries, entries) float, right: the same shape, bool.

    Returns the columns of QueryResults for these queries, (queries,) each.
    """
    ranked = right.gather(1, pessimistic_order(scores, right))
    rank = torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
    total = ranked.sum(1).double()
    precision = ranked.cumsum(1) / rank
    last_rank = (ranked * rank).amax(1)
    return (
        ranked.int().argmax(1) + 1,
        (precision * ranked).double().sum(1) / total,
        total / last_rank,
    )


def pessimistic_order(scores: Tensor, right: Tensor) -> Tensor:
    """Column indices by falling score; among equal scores the wrong entries come first.

    scores: (queries, entries) float, right: (queries, entries) bool -> the same shape, int64.
    """
    wrong_first = right.int().argsort(dim=1, stable=True)
    by_score = scores.gather(1, wrong_first).argsort(dim=1, descending=True, stable=True)
    return wrong_first.gather(1, by_score)


def summarise(results: QueryResults) -> Retrieval:
    """Means over all queries, in percent."""
    means = {name: 100 * values.mean().item() for name, values in _figures(results).items()}
    return Retrieval(**means, queries=len(results.first_rank))


def _figures(results: QueryResults) -> dict[str, Tensor]:
    """Each figure's value for each query, (queries,) float64 in 0 to 1."""
    return {
        **{f"rank_{k}": (results.first_rank <= k).double() for k in RANKS},
        "mean_average_precision": results.average_precision,
        "mean_inverse_negative_penalty": results.inverse_negative_penalty,
    }


def chance_rank(query_identities: Tensor, gallery_identities: Tensor, k: int) -> float:
    """Percent of queries that a random order of the gallery answers within its first k.

    1 - C(wrong, k) / C(entries, k), averaged over the queries; arguments as in rank_queries.
    """
    entries = len(gallery_identities)
    identities, counts = torch.unique(gallery_identities, return_counts=True)
    right = counts[torch.searchsorted(identities, query_identities)].double()
    missed = torch.ones_like(right)
    for drawn in range(min(k, entries)):
        missed *= ((entries - right - drawn) / (entries - drawn)).clamp_min(0)
    return 100 * (1 - missed.mean().item())


def bootstrap(
    results: QueryResults,
    query_identities: Tensor,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Confidence intervals of summarise()'s figures, resampling identities with replacement.

    Queries of one person are not independent (same clothes, same images), so whole identities
    are drawn; drawing queries would make the intervals too narrow.
    """
    identities, group = torch.unique(query_identities.cpu(), return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(identities), (samples, len(identities)), generator=generator)
    times = torch.zeros(samples, len(identities), dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))
    queries = times @ torch.bincount(group).double()
    tail = (1 - confidence) / 2
    intervals = {}
    for name, values in _figures(results).items():
        sums = torch.zeros(len(identities), dtype=torch.float64).scatter_add_(0, group, values)
        means = 100 * (times @ sums) / queries
        low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
        intervals[name] = Interval(low, high)
    return intervals
