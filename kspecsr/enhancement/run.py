"""Files in, results out: a stream of bounded length between reading, networks and writing.

Worker processes read spectra (`read_file`) and write results (`write_file`); this process has the networks.
"""

from __future__ import annotations

import argparse
import errno
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.command_line import LOG, RESUMES, list_failures
from data_pipeline.progress import Progress
from data_pipeline.readers.format import ReadOptions
from data_pipeline.readers.own import NUMBER_KEYWORDS
from data_pipeline.spectrum import SpectrumError, SpectrumMeta
from data_pipeline.workers import worker_pool
from kspecsr.enhancement.gratings import read_gratings, with_gratings
from kspecsr.enhancement.inputs import InputFile, check_writable, list_inputs, read_input
from kspecsr.gratings.joint import JointInput, join
from kspecsr.gratings.priors import NoJointLinesError
from kspecsr.results.arm_files import ARMS_HASH, LOOKED
from kspecsr.results.arms import arms_hash
from kspecsr.results.files import (
    EXTRACTION,
    GIVEN,
    INPUT_HASH,
    INPUT_NAME,
    INPUT_PATH_HASH,
    KEPT,
    MODEL_HASH,
    Z_SOURCE,
    lines_path,
    path_hash,
    read_header,
)
from kspecsr.results.flags import ARMS_DISAGREE
from kspecsr.results.prism_input import PrismInput, prism_input
from kspecsr.results.resolver import NetworkError, Resolver, named_backend_errors
from kspecsr.results.table import row_of

if TYPE_CHECKING:
    from kspecsr.results.result import Result

BATCH = 128
# Errors that every later file would meet, too.
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
DONE, NO_PRISM, FAILED, READ = "done", "no prism", "failed", "read"


@dataclass(frozen=True)
class Settings:
    """Settings that all files share.

    Attributes:
        output: folder of the results.
        format: ``fits`` or ``ecsv``.
        plot: whether pictures are drawn.
        reading: what is read of each file.
        overwrite: whether existing results are made again.
        model_sha256: SHA-256 of the weights.
        redshifts: redshifts that the user knows.
        zero_point: velocity [km/s] that is taken off the wavelengths.
        keep_flagged: whether flagged spectra keep their lines.
    """

    output: Path
    format: str
    plot: bool
    reading: ReadOptions
    overwrite: bool
    model_sha256: str
    redshifts: KnownRedshifts = field(default_factory=KnownRedshifts)
    zero_point: float = 0.0
    keep_flagged: bool = False

    def result_path(self, file: InputFile) -> Path:
        """Path of the result of a file."""
        return self.output / f"{file.name}.{self.format}"

    def picture_path(self, file: InputFile) -> Path:
        """Path of its picture."""
        return self.output / f"{file.name}.png"


@dataclass(frozen=True, eq=False)
class ReadFile:
    """A file that was read, or why it was not.

    Attributes:
        file: the input.
        status: one of `DONE`, `NO_PRISM`, `FAILED`, `READ`.
        spectrum: spectrum on the prism's pixels; None unless read.
        joint: the same with its gratings; None for none.
        redshift: known redshift; NaN for none.
        error: text, where it failed.
    """

    file: InputFile
    status: str
    spectrum: PrismInput | None = None
    joint: JointInput | None = None
    redshift: float = math.nan
    error: str = ""


@dataclass(frozen=True)
class WrittenFile:
    """A result that was written, or why it was not.

    Attributes:
        line: line of text about the result.
        flagged: whether it has flags.
        error: text, where it failed.
    """

    line: str = ""
    flagged: bool = False
    error: str = ""


def read_file(settings: Settings, file: InputFile) -> ReadFile:
    """Reads one file, unless its result is there; an error becomes text."""
    try:
        spectrum = read_input(file, settings.reading)
        if spectrum is None:
            return ReadFile(file, NO_PRISM)
        if settings.zero_point:
            spectrum = spectrum.without_zero_point(settings.zero_point)
        redshift = settings.redshifts.of(file.path, spectrum.meta)
        header = existing_header(settings, file)
        check_same_input(settings, file, spectrum.meta, header)
        gratings = read_gratings(file.gratings, spectrum, settings.reading.extraction)
        arms = arms_hash(one.meta.sha256 for one in gratings)
        if not settings.overwrite and is_done(settings, file, spectrum.meta, redshift, header, arms):
            return ReadFile(file, DONE)
        prism = prism_input(spectrum)
        joint = JointInput(prism, gratings, redshift) if gratings else None
        return ReadFile(file, READ, prism, joint, redshift)
    except Exception as error:  # one odd file must not end a batch of thousands
        return ReadFile(file, FAILED, error=_text(error, file))


def write_file(settings: Settings, item: tuple[InputFile, Result]) -> WrittenFile:
    """Writes one result, and its picture first, so that a result that is there has its picture.

    Raises:
        OSError: for a full or read-only disk.
    """
    file, result = item
    try:
        if settings.plot:
            result.plot(settings.picture_path(file))
        result.write(settings.result_path(file), settings.format)
    except Exception as error:  # as above
        if isinstance(error, OSError) and error.errno in _HOPELESS:
            raise OSError(error.errno, error.strerror, str(settings.result_path(file))) from error
        return WrittenFile(error=_text(error, file))
    return WrittenFile(row_of(result, file.path.name).summary, bool(result.flags))


def _text(error: Exception, file: InputFile) -> str:
    """Text of an error, on one line, that names the file, and the kind of an unexpected one."""
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    text = kind + " ".join(str(error).split())
    return text if str(file.path) in text else f"{file.path}: {text}"


def existing_header(settings: Settings, file: InputFile) -> Mapping[str, Any]:
    """Header of the result that lies where this file's goes; empty for none, and for a damaged one."""
    path = settings.result_path(file)
    if not path.is_file():
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # astropy only warns of a truncated file
            return read_header(path)
    except (OSError, ValueError, KeyError, TypeError, fits.VerifyError, Warning):
        return {}  # it is made again


def check_same_input(
    settings: Settings, file: InputFile, meta: SpectrumMeta, header: Mapping[str, Any]
) -> None:
    """Checks that an existing result is not another file's: two folders may hold files of one name.

    A file that changed where it is, or was moved as it is, is the same input.

    Raises:
        SpectrumError: if it is another file's, and would be lost.
    """
    # Both must differ: a hash of the path alone would refuse files that were moved, the content alone those
    # that were reduced anew.
    place, content = header.get(INPUT_PATH_HASH), header.get(INPUT_HASH)
    if place and content and place != path_hash(file.path) and content != meta.sha256:
        raise SpectrumError(
            f"{file.path}: {settings.result_path(file)} is the result of another file, which was called "
            f"{header.get(INPUT_NAME)} and lay elsewhere; it would be lost. Choose another --output, or "
            "remove that result."
        )


def is_done(
    settings: Settings,
    file: InputFile,
    meta: SpectrumMeta,
    redshift: float,
    header: Mapping[str, Any],
    arms: str = "",
) -> bool:
    """Whether a complete result of this model, input, extraction, zero point, redshift and lines is there.

    Args:
        settings: settings of the run.
        file: the input.
        meta: metadata of its spectrum.
        redshift: known redshift; NaN for none.
        header: header of the existing result, of `existing_header`.
        arms: hash of its gratings; empty for none.
    """
    if not header or (settings.plot and not settings.picture_path(file).is_file()):
        return False
    if settings.format == "ecsv" and not lines_path(settings.result_path(file)).is_file():
        return False
    looked = header.get(LOOKED)  # with gratings, a given redshift is where they are looked at
    looked = looked if isinstance(looked, float) else math.nan
    given = str(header.get(Z_SOURCE, "")).strip() == GIVEN or math.isfinite(looked)
    # A redshift that the user has given or withdrawn since makes other lines.
    if given != math.isfinite(redshift):
        return False
    place = looked if math.isfinite(looked) else header.get("Z", math.nan)
    if given and not math.isclose(place, redshift, rel_tol=1e-12):
        return False
    if not math.isclose(header.get(NUMBER_KEYWORDS["zero_point"]) or 0.0, settings.zero_point):
        return False
    flagged = set(header.get("FLAGS", "").split(",")) - {"", ARMS_DISAGREE}
    if flagged and bool(header.get(KEPT)) != settings.keep_flagged:
        return False
    wanted = {INPUT_HASH: meta.sha256, MODEL_HASH: settings.model_sha256, EXTRACTION: meta.extraction}
    wanted[ARMS_HASH] = arms
    return all(header.get(keyword, "") == value for keyword, value in wanted.items())


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
        Summary of the run, also where a full disk, want of memory or a dead worker process ended it early.
    """
    summary = Summary()
    try:
        with worker_pool(workers if len(files) > _FEW else 1) as parallel_map:
            read = parallel_map(partial(read_file, settings), files)
            resolved = _resolved(read, make_resolver, summary, advance, settings)
            for written in parallel_map(partial(write_file, settings), resolved):
                if written.error:
                    summary.failures.append(written.error)
                else:
                    summary.made += 1
                    summary.flagged += written.flagged
                    report(written.line)
                advance(1)
    except (OSError, NetworkError) as error:
        summary.ended = " ".join(str(error).split())
    return summary


def _resolved(
    read: Iterable[ReadFile],
    make_resolver: Callable[[], Resolver],
    summary: Summary,
    advance: Callable[[int], object],
    settings: Settings,
) -> Iterator[tuple[InputFile, Result]]:
    """Results of what could be read, in batches."""
    # Loaded for the first batch: a run in which all results are there need not start TensorFlow.
    resolver: Resolver | None = None
    batch: list[ReadFile] = []

    def flush() -> Iterator[tuple[InputFile, Result]]:
        nonlocal resolver
        if not batch:
            return
        with named_backend_errors():
            resolver = resolver or make_resolver()
            alone = [one for one in batch if one.joint is None]
            given = [one.redshift for one in alone]
            results = dict(
                zip(
                    (one.file for one in alone),
                    resolver.resolve([one.spectrum for one in alone], given, settings.keep_flagged),
                    strict=True,
                )
            )
            joint = [one for one in batch if one.joint is not None]
            for one, result in zip(joint, _joined(resolver, joint, settings), strict=True):
                if isinstance(result, Exception):
                    summary.failures.append(_text(result, one.file))
                    advance(1)
                else:
                    results[one.file] = result
        for one in batch:
            if one.file in results:
                yield one.file, results[one.file]
        batch.clear()

    for one in read:
        if one.spectrum is None:
            summary.done += one.status == DONE
            summary.no_prism += one.status == NO_PRISM
            if one.status == FAILED:
                summary.failures.append(one.error)
            advance(1)
            continue
        summary.without_redshift += bool(settings.redshifts.by_key) and one.redshift != one.redshift
        batch.append(one)
        if len(batch) == BATCH:
            yield from flush()
    yield from flush()


def _joined(resolver: Resolver, joint: list[ReadFile], settings: Settings) -> list[Result | Exception]:
    """Results of spectra with gratings, or what went wrong with one of them."""
    if not joint:
        return []
    try:
        return join(resolver, [one.joint for one in joint], settings.keep_flagged)
    except NoJointLinesError:
        raise
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # one odd file, as above
        if len(joint) == 1:
            return [error]
        return [result for one in joint for result in _joined(resolver, [one], settings)]


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
        reading=ReadOptions(args.extraction, args.hdu, row=args.row),
        overwrite=args.overwrite,
        model_sha256=model_sha256,
        redshifts=KnownRedshifts.parse(args.redshift),
        zero_point=args.zero_point,
        keep_flagged=args.keep_flagged,
    )
    files = list_inputs(args.files, args.hdu, args.row)[: args.limit]
    if beside := getattr(args, "gratings", None):
        files = with_gratings(files, beside)
        for file in files:
            if file.gratings:
                LOG.info("%s: with %s", file.path, ", ".join(map(str, file.gratings)))
    if args.dry_run:
        return _dry_run(files, settings)
    check_writable(args.output)
    started = time.monotonic()
    with Progress(total=len(files), desc="enhance", unit="file", delay=2, disable=args.quiet) as bar:
        report = (lambda line: None) if args.quiet else bar.write
        summary = enhance_files(files, settings, make_resolver, args.workers, report, bar.update)
    print(_counts(summary, time.monotonic() - started))
    status = list_failures(summary.failures)
    if summary.ended:
        LOG.error("\nended early: %s; %s", summary.ended, RESUMES)
    return 1 if summary.ended else status


def _dry_run(files: Sequence[InputFile], settings: Settings) -> int:
    """Prints what a run would do with each file; returns its exit status, as far as reading tells."""
    summary = Summary()
    for one in (read_file(settings, file) for file in Progress(files, desc="read", unit="file", delay=2)):
        if one.status == FAILED:
            summary.failures.append(one.error)
            continue
        target = settings.result_path(one.file)
        what = {READ: f"to {target}", DONE: f"{target} is there", NO_PRISM: "no prism spectrum"}
        beside = f", with {', '.join(path.name for path in one.file.gratings)}" if one.file.gratings else ""
        print(f"{one.file.path}: {what[one.status]}{beside}")
        summary.made += one.status == READ
    print(f"{summary.made} of {len(files)} would be super-resolved; nothing was written")
    return list_failures(summary.failures, "would fail")


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
