"""Passerby: find people in millions of pedestrian images by describing them.

from passerby import Client

with Client() as client:
    hits = client.search("a woman in a purple dress", gallery="demo")
"""

from passerby.client import Client
from passerby.errors import PasserbyError, Refused, Unavailable
from passerby.values import (
    DeadLetter,
    Explanation,
    Failure,
    Filter,
    Gallery,
    Hit,
    Hits,
    Image,
    Progress,
)

__all__ = [
    "Client",
    "DeadLetter",
    "Explanation",
    "Failure",
    "Filter",
    "Gallery",
    "Hit",
    "Hits",
    "Image",
    "PasserbyError",
    "Progress",
    "Refused",
    "Unavailable",
]
