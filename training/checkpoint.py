"""Checkpoints: a killed process cannot damage them, and reading one runs no code."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch


class UnusableCheckpoint(ValueError):
    """The checkpoint does not belong to this run, or cannot be read or written."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside `path`, reach the disk, then take its place in one step.

    A single process writes; what a killed one leaves behind is overwritten by the next.
    Raises UnusableCheckpoint when the disk is full; what was at `path` before is still whole.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        partial.unlink(missing_ok=True)
        raise UnusableCheckpoint(
            f"{path}: could not be written ({error}); the previous one is intact. Make room and "
            f"start the same command again"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors, numbers and text only; a file that holds anything else is refused."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UnusableCheckpoint(f"{path}: no such file; name the folder of a run") from error
    except OSError as error:
        raise UnusableCheckpoint(
            f"{path}: could not be read ({error.strerror or error}); the file may be intact"
        ) from error
    except Exception as error:  # torch raises half a dozen unrelated types for a bad file
        # Of what it does not unpickle torch says at length how to run it all the same.
        text = "" if isinstance(error, pickle.UnpicklingError) else f": {error}"
        raise UnusableCheckpoint(
            f"{path}: cannot be loaded as a checkpoint of this program "
            f"({type(error).__name__}{text}); move it away to train from the start"
        ) from error
    if not isinstance(state, dict):
        raise UnusableCheckpoint(
            f"{path}: not a checkpoint of this program; move it away to train from the start"
        )
    return state
