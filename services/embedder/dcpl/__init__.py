"""DCPL (Zhang & Lu, ECCV 2018): images and captions of people in one space, by projection."""
