"""Outputs appear complete or not at all: written beside their place, then renamed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CURES = {
    errno.ENOSPC: "the disk is full: free space or choose another --output",
    errno.EDQUOT: "your quota is used up: free space or choose another --output",
    errno.EACCES: "no permission to write: choose another --output or change the folder's permissions",
    errno.EPERM: "no permission to write: choose another --output or change the folder's permissions",
    errno.EROFS: "the file system is read-only: choose another --output",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another --output",
    errno.EEXIST: "a part of the path is a file, not a folder: choose another --output",
    errno.EFBIG: "the file exceeds the largest size allowed here: use more shards (n_shards)",
    errno.EMFILE: "too many open files: use fewer shards (n_shards) or raise `ulimit -n`",
}


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the same folder, renamed to `path` on success and deleted on failure.

    Raises:
        OSError: what writing raised; a full disk, which knows no file, gets the name of this one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_cure(error: OSError) -> str:
    """Advice after a failed write; the system's own text for a rare error."""
    return _CURES.get(error.errno, error.strerror or str(error))
