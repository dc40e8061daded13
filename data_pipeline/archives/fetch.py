"""Fetch files: a few connections, resumable, verified, and under the final name only when whole."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import requests
import urllib3

from data_pipeline.archives.fits_integrity import IntegrityError, check_fits
from data_pipeline.archives.http_client import (
    HttpClient,
    InterruptedTransferError,
    RetryableError,
    TransferError,
)
from data_pipeline.archives.release import RemoteFile
from data_pipeline.progress import Progress
from data_pipeline.writers.atomic import write_cure

MOST_JOBS = 4
# called with the number of bytes of every piece that arrives
Advance = Callable[[int], None]
_CHUNK = 1 << 16


class LocalStorageError(Exception):
    """The local disk refuses; no other file would fare better."""


def local_path(remote: RemoteFile, directory: Path) -> Path:
    """The same path below ``directory`` as below the release's root.

    Raises:
        TransferError: if the path would leave the directory.
    """
    parts = remote.path.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise TransferError(
            f"{remote.url}: {remote.path!r} in the archive's list is no plain path below its root"
        )
    return directory.joinpath(*parts)


def verify(path: Path, remote: RemoteFile) -> None:
    """Check a file against what the archive lists for it and, where it is FITS, against itself.

    Raises:
        IntegrityError: if it is not the whole, unaltered file.
    """
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise IntegrityError(f"it has {size} bytes, the archive lists {remote.size}")
    if remote.sha256 is not None:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != remote.sha256:
            raise IntegrityError(f"altered: SHA-256 is {digest}, the archive lists {remote.sha256}")
    if path.name.removesuffix(".part").endswith(".fits"):
        check_fits(path)


def is_complete(path: Path, remote: RemoteFile) -> bool:
    """Whether a local copy is there and needs no request: by its listed size or, unlisted, by `verify`."""
    if not path.is_file():
        return False
    if remote.size is not None:
        return path.stat().st_size == remote.size
    try:
        verify(path, remote)
    except IntegrityError:
        return False
    return True


def fetch(
    remote: RemoteFile, directory: Path, client: HttpClient, received: Advance = lambda size: None
) -> bool:
    """Fetch one file unless a complete copy is there.

    Bytes go to ``<name>.part``; an interrupted transfer is continued from there if the server proves (by
    If-Range with the modification time) that its file is still the same. A whole file that fails `verify` is
    thrown away and fetched anew. ``received`` is told about every piece that arrives. Returns False if the
    local copy was kept.

    Raises:
        InterruptedTransferError: if the user asked to stop.
        LocalStorageError: if the disk refuses.
        TransferError: if the file cannot be had whole.
    """
    target = local_path(remote, directory)
    try:
        if is_complete(target, remote):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        client.retrying(lambda: _transfer(remote, target, client, received))
    except OSError as error:
        raise LocalStorageError(
            f"Cannot write {target}: {error.strerror or error}. Probably {write_cure(error)}. Then rerun the "
            "same command to resume."
        ) from error
    return True


def _transfer(remote: RemoteFile, target: Path, client: HttpClient, received: Advance) -> None:
    """One attempt."""
    part = target.with_name(f"{target.name}.part")
    headers = {"Accept-Encoding": "identity"}
    offset = part.stat().st_size if part.exists() else 0
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": formatdate(part.stat().st_mtime, usegmt=True)}
    with closing(client.get(remote.url, headers)) as response:
        resumes = response.status_code == requests.codes.partial_content
        refusal = ""
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            refusal = "the partial copy is longer than the file"
        elif resumes and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            refusal = "not the range that was asked for"
        if refusal:
            part.unlink()
            raise RetryableError(f"{remote.url}: {refusal}; starting again")
        _write(response, part, resumes, client, received)
    try:
        verify(part, remote)
    except IntegrityError as error:
        part.unlink()
        raise RetryableError(f"{remote.url} arrived damaged: {error}") from error
    part.replace(target)


def _write(
    response: requests.Response, part: Path, resumes: bool, client: HttpClient, received: Advance
) -> None:
    """Append the body to ``part`` (or begin it), which then carries the server's modification time."""
    count = 0
    try:
        with part.open("ab" if resumes else "wb") as stream:
            # read1 hands over what has come (iter_content would lose the last bytes before a break) and
            # raises if that is less than Content-Length
            while chunk := response.raw.read1(_CHUNK):
                stream.write(chunk)
                count += len(chunk)
                received(len(chunk))
                if client.stop.is_set():
                    raise InterruptedTransferError
    except urllib3.exceptions.HTTPError as error:
        raise RetryableError(f"{response.url} broke off after {count} bytes: {error}") from error
    finally:
        # Without this time the next If-Range does not match, and the file is fetched from its beginning.
        modified = response.headers.get("Last-Modified")
        if modified and part.exists():
            with suppress(TypeError, ValueError):
                time = parsedate_to_datetime(modified).timestamp()
                os.utime(part, (time, time))


@dataclass
class Report:
    """Summary of a download.

    Attributes:
        fetched: transferred in this run.
        kept: files with a complete local copy.
        failed: with the reason.
        received: bytes transferred.
        interrupted: the user stopped it; files in none of the lists were not reached.
    """

    fetched: list[RemoteFile] = field(default_factory=list)
    kept: list[RemoteFile] = field(default_factory=list)
    failed: list[tuple[RemoteFile, str]] = field(default_factory=list)
    received: int = 0
    interrupted: bool = False

    def table(self) -> str:
        """Numbers of files per disperser, as text."""
        columns = (self.fetched, self.kept, [file for file, _ in self.failed])
        kinds = sorted({file.kind for column in columns for file in column})
        rows = [(kind, *(sum(file.kind == kind for file in column) for column in columns)) for kind in kinds]
        rows.append(("all", *(len(column) for column in columns)))
        lines = [f"{'':<10}{'fetched':>9}{'kept':>9}{'failed':>9}"]
        lines += [f"{kind:<10}{a:>9}{b:>9}{c:>9}" for kind, a, b, c in rows]
        return "\n".join(lines)

    def add(self, file: RemoteFile, transfer: Future) -> None:
        """Count one finished transfer."""
        try:
            (self.fetched if transfer.result() else self.kept).append(file)
        except TransferError as error:
            self.failed.append((file, str(error)))
        except InterruptedTransferError:
            self.interrupted = True


def fetch_all(
    files: Sequence[RemoteFile], directory: Path, client: HttpClient, jobs: int = 2, quiet: bool = False
) -> Report:
    """Fetch files, keep complete copies, continue past failures.

    ``jobs`` transfers run at the same time, 1 to `MOST_JOBS`. `Report.interrupted` is set after Ctrl-C, when
    running transfers have been laid aside.

    Raises:
        LocalStorageError: if the disk refuses or is too small; transfers have been laid aside.
        ValueError: for a number of connections that no server should be asked for.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise ValueError(f"jobs={jobs} must be 1 to {MOST_JOBS}: public archives are shared by everybody.")
    _check_space(files, directory)
    report = Report()
    hidden = True if quiet else None  # None: where the output is no terminal
    with (
        Progress(total=len(files), unit="file", disable=hidden, desc="download", miniters=0) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        counting = threading.Lock()

        def received(size: int) -> None:
            with counting:
                report.received += size
                bar.set_postfix_str(f"{report.received / 1e6:.1f} MB", refresh=False)
                # the bar counts files: redraw it (at most ten times a second) while a large one comes in
                bar.update(0)

        futures = {pool.submit(fetch, file, directory, client, received): file for file in files}
        try:
            for future in as_completed(futures):
                report.add(futures[future], future)
                bar.update()
        except KeyboardInterrupt:
            report.interrupted = True
        finally:
            # whatever ends the loop: running transfers keep their .part, waiting ones do not begin
            client.stop.set()
            pool.shutdown(cancel_futures=True)
    return report


def _check_space(files: Sequence[RemoteFile], directory: Path) -> None:
    """Raise LocalStorageError if the listed sizes cannot fit."""
    needed = sum(
        file.size for file in files if file.size and not is_complete(local_path(file, directory), file)
    )
    existing = directory.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise LocalStorageError(
            f"{directory} has {free / 1e9:.1f} GB free, the missing files need {needed / 1e9:.1f} GB. "
            "Free some space, choose another --output, or fetch less (--field, --disperser, --tier, --limit)."
        )
