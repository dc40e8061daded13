"""Whether an output folder can be written, found out before any work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path


def check_writable(folder: Path) -> None:
    """Makes the output folder and writes into it, before seconds go into loading a model.

    Raises:
        OSError: saying what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"--output {folder}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error
