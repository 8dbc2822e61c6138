"""Every key in Redis beyond the two streams of the contract."""

from passerby.contract import DEAD_LETTER_COUNTS

__all__ = ["DEAD_LETTER_COUNTS", "names_key"]


def names_key(gallery: str, bucket: int) -> str:
    """The hash that holds one bucket of a gallery's names."""
    return f"passerby:names:{gallery}:{bucket:05x}"
