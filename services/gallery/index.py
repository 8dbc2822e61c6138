"""The index of collections: what it is built with, and how much of it a search reads.

The default cuts the vectors into lists around 1,024 centres (IVF_FLAT); a search reads those that
are nearest to it, or all. A graph (HNSW, and what AUTOINDEX makes) is as fast, but identical
images, such as the frames of a covered camera, take up all links of their neighbours and cut them
off: `python -m tests.bench index` has the figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["AUTOINDEX", "FLAT", "IVF_FLAT", "HNSW", "DISKANN", "GPU_CAGRA"]
DEFAULT: Kind = "IVF_FLAT"

# Search parameters that say how much of an index is read: lists, or candidates of a graph.
BREADTH = {"nprobe", "ef"}
_LISTS = 1024
_NEAREST_LISTS = 64
# Milvus' greatest number of lists.
_ALL_LISTS = 65_536
# Candidates that a search of a graph keeps, at least.
_CANDIDATES = 64


@dataclass(frozen=True)
class Index:
    """An index of Milvus; parameters that are not given are the defaults of here or of Milvus."""

    kind: Kind = DEFAULT
    params: Mapping[str, Any] = field(default_factory=dict)
    search_params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def building(self) -> dict[str, Any]:
        lists = {"nlist": _LISTS} if self.kind == "IVF_FLAT" else {}
        return {**lists, **self.params}

    def searching(self, hits: int, *, exact: bool) -> dict[str, Any]:
        """Parameters of a search for the best `hits`; exact: of all lists.

        Collections keep the index that they were made with: each takes from these what it knows.
        """
        params = {"nprobe": _NEAREST_LISTS, "ef": _CANDIDATES, **self.search_params}
        params["ef"] = max(params["ef"], hits)
        return {**params, "nprobe": _ALL_LISTS} if exact else params
