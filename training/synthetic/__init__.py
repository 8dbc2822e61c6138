"""Synthetic pedestrians: drawn people with captions, for where real ones may not be used."""
