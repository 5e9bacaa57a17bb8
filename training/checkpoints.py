"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one file, whole or not there."""

import hashlib
import json
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

FORMAT = 1

State = dict[str, Any]


class CheckpointError(ValueError):
    """The checkpoint cannot be used here: it is of another run, or damaged."""


def write_checkpoint(path: Path, state: State, signature: str) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) so that a kill leaves the old file or the new.

    Args:
        path: of the file; its folder is made.
        state: of the run.
        signature: of what the run does; only a run with the same one may go on from here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
        torch.save({"format": FORMAT, "signature": signature, "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def read_checkpoint(path: Path, signature: str) -> State:
    """Read what `write_checkpoint` wrote; nothing in the file is executed.

    Raises:
        CheckpointError: not a checkpoint, or that of a run that does something else.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        found, written = document["format"], document["signature"]
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise CheckpointError(f"{path.name} is no checkpoint: {type(error).__name__}") from error
    if (found, written) != (FORMAT, signature):
        raise CheckpointError(f"{path.name} is of a run with other settings, crops or seed; remove it to start anew")
    state: State = document["state"]
    return state


def sign(crops: NDArray[np.float32], *parts: Any) -> str:
    """Return a digest of JSON-ready `parts` and of the crops, of which at most 64 are read."""
    digest = hashlib.sha256(json.dumps([list(crops.shape), *parts], sort_keys=True).encode())
    for row in np.unique(np.linspace(0, len(crops) - 1, 64).astype(int)):
        digest.update(np.ascontiguousarray(crops[row]).tobytes())
    return digest.hexdigest()
