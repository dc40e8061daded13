"""Checks of a run folder before the first epoch: writable, enough room, no other run at work in it."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.workers import only_process


class OutputError(OSError):
    """A folder that a run cannot be written to; the text says why and what to do."""


def check_room(folder: Path, needed: int) -> None:
    """Make the folder, and reserve the needed room [bytes] there for a moment.

    Raises:
        OutputError: if it cannot be made or written, or lacks room.
    """
    probe = folder / f".room.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(probe, "wb") as file:
            _allocate(file.fileno(), folder, needed)
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror or error}; the run needs a folder that can be written, with "
            f"{needed / 1e6:.0f} MB of room: make some, or give another --output"
        ) from None
    finally:
        with suppress(OSError):  # the folder itself is no folder
            probe.unlink(missing_ok=True)


def _allocate(descriptor: int, folder: Path, needed: int) -> None:
    """Reserve room; if the system (macOS) or the file system cannot, ask how much is free."""
    try:
        # Reserved for real, not asked for: free space says nothing of quotas.
        os.posix_fallocate(descriptor, 0, needed)
        return
    except AttributeError:
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sweep(folder: Path, stages: Sequence[str]) -> None:
    """Remove temporary files and folders that a killed run left; only under the lock of `only_run`."""
    for place in (folder, *(folder / stage for stage in stages)):
        for path in place.glob(".*.part"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold the folder: a second run in it is refused inside the block.

    Raises:
        OutputError: if another run holds it.
    """
    error = OutputError(
        f"{folder}: another training is at work in this folder; wait for it, or give another --output"
    )
    with only_process(folder, error):
        yield
