"""Synthetic pedestrians: drawn people with captions, for where real ones may not be used."""

from training.synthetic.dataset import generate

__all__ = ["generate"]
