"""What the contract fixes beyond the messages: names in Redis, the gallery rule, limits."""

import re

INGEST_STREAM = "passerby:ingest"
CONSUMER_GROUP = "indexer"
DEAD_LETTERS_STREAM = "passerby:dead-letters"
# Hash: gallery -> images and entries of it that are among the dead letters.
DEAD_LETTER_COUNTS = "passerby:dead-letter-counts"

DEFAULT_GALLERY = "default"
GALLERY_NAME = re.compile(r"[a-z0-9-]{1,63}")
GALLERY_RULE = "a gallery's name is 1 to 63 of a-z, 0-9 and -"

MAX_FILENAME_BYTES = 4096
# Of one deletion.
MAX_FILENAMES = 10_000
MAX_CAPTION_CHARACTERS = 2000
DEFAULT_TOP_K = 12
MAX_TOP_K = 1000
# Milvus answers no window past this one.
MAX_WINDOW = 16_384
