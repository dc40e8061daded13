"""Fetches many files over a few connections and says what became of each."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from data_pipeline.archives.fetch import LocalStorageError, fetch, is_complete, local_path
from data_pipeline.archives.http_client import HttpClient, InterruptedTransferError, TransferError
from data_pipeline.archives.release import RemoteFile

MOST_JOBS = 4


@dataclass
class Report:
    """What became of the files.

    Attributes:
        fetched: transferred in this run.
        kept: a complete copy was there.
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
        """Numbers of files per disperser, for people."""
        columns = (self.fetched, self.kept, [file for file, _ in self.failed])
        kinds = sorted({file.kind for column in columns for file in column})
        rows = [(kind, *(sum(file.kind == kind for file in column) for column in columns)) for kind in kinds]
        rows.append(("all", *(len(column) for column in columns)))
        lines = [f"{'':<10}{'fetched':>9}{'kept':>9}{'failed':>9}"]
        lines += [f"{kind:<10}{a:>9}{b:>9}{c:>9}" for kind, a, b, c in rows]
        return "\n".join(lines)


def fetch_all(files: Sequence[RemoteFile], directory: Path, client: HttpClient, jobs: int = 2) -> Report:
    """Fetch files, keep complete copies, go on past failures.

    Args:
        files: what to fetch.
        directory: root of the local copy.
        client: paces and retries.
        jobs: connections at the same time, 1 to `MOST_JOBS`.

    Returns:
        The report; `Report.interrupted` is set after Ctrl-C, when running transfers have been laid aside.

    Raises:
        LocalStorageError: if the disk refuses or is too small; transfers have been laid aside.
        ValueError: for a number of connections that no server should be asked for.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise ValueError(f"jobs={jobs} must be 1 to {MOST_JOBS}: public archives are shared by everybody.")
    _check_space(files, directory)
    report = Report()
    with (
        tqdm(total=len(files), unit="file", disable=None, desc="download", miniters=0) as bar,
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
                _record(future, futures[future], report)
                bar.update()
        except KeyboardInterrupt:
            report.interrupted = True
        finally:
            # whatever ends the loop: running transfers keep their .part, waiting ones do not begin
            client.stop.set()
            pool.shutdown(cancel_futures=True)
    return report


def _record(future: Future, file: RemoteFile, report: Report) -> None:
    try:
        (report.fetched if future.result() else report.kept).append(file)
    except TransferError as error:
        report.failed.append((file, str(error)))
    except InterruptedTransferError:
        report.interrupted = True


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
