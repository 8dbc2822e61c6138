"""Every key in Redis beyond the two streams of the contract."""

# Hash: gallery -> images and entries of it that were refused so far.
DEAD_LETTER_COUNTS = "passerby:dead-letter-counts"


def names_key(gallery: str, bucket: int) -> str:
    """The hash that holds one bucket of a gallery's names."""
    return f"passerby:names:{gallery}:{bucket:05x}"
