"""Synthetic pedestrians: drawn people with captions, for where real ones may not be used."""

from services.embedder.training.synthetic.dataset import generate

__all__ = ["generate"]
