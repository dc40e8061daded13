"""Files in, results out: a stream of bounded length between reading, networks and writing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.command_line import LOG, RESUMES, list_failures
from data_pipeline.workers import worker_pool
from kspecsr.enhancement.files import (
    DONE,
    FAILED,
    NO_PRISM,
    ReadFile,
    Settings,
    WrittenFile,
    read_file,
    write_file,
)
from kspecsr.enhancement.inputs import InputFile, check_writable, list_inputs
from kspecsr.results.resolver import NetworkError, Resolver, named_backend_errors

if TYPE_CHECKING:
    from kspecsr.results.resolver import Resolver
    from kspecsr.results.result import Result


BATCH = 128
_FEW = 4  # files that are not worth starting processes for


@dataclass
class Summary:
    """Summary of a run.

    Attributes:
        made: results written.
        flagged: of them, those without lines.
        without_redshift: of them, those for which the table of redshifts has none.
        done: results that were there.
        no_prism: files found in folders that are no prism spectra.
        failures: text for each file that failed.
        ended: why the run ended before the last file; empty if it did not.
    """

    made: int = 0
    flagged: int = 0
    without_redshift: int = 0
    done: int = 0
    no_prism: int = 0
    failures: list[str] = field(default_factory=list)
    ended: str = ""


def enhance_files(
    files: Sequence[InputFile],
    settings: Settings,
    make_resolver: Callable[[], Resolver],
    workers: int,
    report: Callable[[str], None],
    advance: Callable[[int], object],
) -> Summary:
    """Super-resolves files, a batch at a time; memory does not grow with their number.

    Args:
        files: in the order in which they are worked off.
        settings: of all files.
        make_resolver: loads the model; called once there is something to do.
        workers: processes that read and write; 0 or 1 for none.
        report: takes a line of text per result.
        advance: takes the number of files that are finished.

    Returns:
        What came of it, also where a full disk, want of memory or a dead worker process ended it early.
    """
    summary = Summary()
    try:
        with worker_pool(workers if len(files) > _FEW else 1) as parallel_map:
            read = parallel_map(partial(read_file, settings), files)
            resolved = _resolved(read, make_resolver, summary, advance, bool(settings.redshifts.by_key))
            for written in parallel_map(partial(write_file, settings), resolved):
                _count(written, summary, report)
                advance(1)
    except (OSError, NetworkError) as error:
        summary.ended = " ".join(str(error).split())
    return summary


def _count(written: WrittenFile, summary: Summary, report: Callable[[str], None]) -> None:
    if written.error:
        summary.failures.append(written.error)
        return
    summary.made += 1
    summary.flagged += bool(written.flags)
    report(written.line)


def _resolved(
    read: Iterable[ReadFile],
    make_resolver: Callable[[], Resolver],
    summary: Summary,
    advance: Callable[[int], object],
    has_table: bool,
) -> Iterator[tuple[InputFile, Result | str]]:
    """Results of what could be read, in batches."""
    resolver: Resolver | None = None
    batch: list[ReadFile] = []

    def flush() -> Iterator[tuple[InputFile, Result | str]]:
        nonlocal resolver
        if not batch:
            return
        with named_backend_errors():
            resolver = resolver or make_resolver()
            results = resolver.resolve([one.spectrum for one in batch], [one.redshift for one in batch])
        for one, result in zip(batch, results, strict=True):
            yield one.file, replace(result, input_sha256=one.sha256)
        batch.clear()

    for one in read:
        if one.spectrum is None:
            summary.done += one.status == DONE
            summary.no_prism += one.status == NO_PRISM
            if one.status == FAILED:
                summary.failures.append(one.error)
            advance(1)
            continue
        summary.without_redshift += has_table and one.redshift != one.redshift
        batch.append(one)
        if len(batch) == BATCH:
            yield from flush()
    yield from flush()


def enhance_as_asked(
    args: argparse.Namespace, model_sha256: str, make_resolver: Callable[[], Resolver]
) -> int:
    """Enhances the files that the options name, and prints a summary.

    Args:
        args: of `kspecsr.enhancement.options.add_options`.
        model_sha256: hash of the weights that `make_resolver` loads or that a server has.
        make_resolver: called once there is something to do.

    Returns:
        Exit status: 0 all done, 1 some failed.

    Raises:
        ValueError, OSError: if nothing could be done.
    """
    settings = Settings(
        output=args.output,
        format=args.format,
        plot=args.plot,
        extraction=args.extraction,
        overwrite=args.overwrite,
        model_sha256=model_sha256,
        redshifts=KnownRedshifts.parse(args.redshift),
    )
    files = list_inputs(args.files)
    check_writable(args.output)
    started = time.monotonic()
    with tqdm(total=len(files), desc="enhance", unit="file", delay=2, disable=args.quiet) as bar:
        report = (lambda line: None) if args.quiet else bar.write
        summary = enhance_files(files, settings, make_resolver, args.workers, report, bar.update)
    print(_counts(summary, time.monotonic() - started))
    status = list_failures(summary.failures)
    if summary.ended:
        LOG.error("\nended early: %s; %s", summary.ended, RESUMES)
    return 1 if summary.ended else status


def _counts(summary: Summary, seconds: float) -> str:
    parts = [f"{summary.made} results in {seconds:.1f} s"]
    if summary.flagged:
        parts.append(f"{summary.flagged} of them without lines (FLAGS in their headers)")
    if summary.without_redshift:
        parts.append(f"{summary.without_redshift} of them without a redshift in the table, so inferred")
    if summary.done:
        parts.append(f"{summary.done} were there already")
    if summary.no_prism:
        parts.append(f"{summary.no_prism} files in folders are no prism spectra")
    return "; ".join(parts)
