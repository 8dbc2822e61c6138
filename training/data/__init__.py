"""Data sets: read, checked, decoded, augmented, in batches."""
