"""Checks on a run folder before the first epoch: writable, room enough, nobody else at work in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class OutputError(OSError):
    """A folder that a run cannot be written to; the text says why and what to do."""


def check_room(folder: Path, needed: int) -> None:
    """Makes the folder and writes a file of the needed size there, which is deleted again.

    Args:
        folder: of the run.
        needed: bytes.

    Raises:
        OutputError: if it cannot be made or written, or lacks room.
    """
    probe = folder / f".room.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(probe, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror or error}; the run needs a folder that can be written, with "
            f"{needed / 1e6:.0f} MB of room: make some, or give another --output"
        ) from None
    finally:
        with suppress(OSError):  # the folder itself is no folder
            probe.unlink(missing_ok=True)


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Holds the folder: a second run in it is refused while the block lasts.

    Raises:
        OutputError: if another run holds it.
    """
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{folder}: another training is at work in this folder; wait for it, or give another --output"
            ) from None
        yield
