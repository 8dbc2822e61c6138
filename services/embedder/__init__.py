"""Turns images and captions into vectors of one space; torch lives here and nowhere else."""
