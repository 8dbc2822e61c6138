"""Takes image batches from the queue, has them embedded, and writes names and vectors."""
