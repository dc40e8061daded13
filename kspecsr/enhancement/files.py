"""What worker processes do: read a spectrum, write a result, see what is done already."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astropy.io import fits

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.lines import load_lines
from data_pipeline.readers import identify_format, read_spectrum
from data_pipeline.readers.recognise import SPECUTILS
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.enhancement.inputs import InputFile
from kspecsr.results.files import (
    EXTRACTION,
    GIVEN,
    INPUT_HASH,
    INPUT_NAME,
    INPUT_PATH_HASH,
    MODEL_HASH,
    Z_SOURCE,
    lines_path,
    path_hash,
)
from kspecsr.results.prism_input import PrismInput, is_prism, prism_input
from kspecsr.results.result import Result

# What every later file would meet, too.
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
DONE, NO_PRISM, FAILED, READ = "done", "no prism", "failed", "read"


@dataclass(frozen=True)
class Settings:
    """What all files have in common.

    Attributes:
        output: folder of the results.
        format: ``fits`` or ``ecsv``.
        plot: whether pictures are drawn.
        extraction: ``3pix`` or ``5pix``.
        overwrite: make again what is there.
        model_sha256: of the weights.
        redshifts: that the user knows.
    """

    output: Path
    format: str
    plot: bool
    extraction: str
    overwrite: bool
    model_sha256: str
    redshifts: KnownRedshifts = field(default_factory=KnownRedshifts)

    def result_path(self, file: InputFile) -> Path:
        """Where the result of a file goes."""
        return self.output / f"{file.name}.{self.format}"

    def picture_path(self, file: InputFile) -> Path:
        """Where its picture goes."""
        return self.output / f"{file.name}.png"


@dataclass(frozen=True, eq=False)
class ReadFile:
    """What came of reading a file.

    Attributes:
        file: which.
        status: one of `DONE`, `NO_PRISM`, `FAILED`, `READ`.
        spectrum: on the prism's pixels; None unless read.
        redshift: known redshift; NaN for none.
        sha256: of the file.
        error: text, where it failed.
    """

    file: InputFile
    status: str
    spectrum: PrismInput | None = None
    redshift: float = math.nan
    sha256: str = ""
    error: str = ""


@dataclass(frozen=True)
class WrittenFile:
    """What came of writing a result.

    Attributes:
        file: which.
        line: of text about it.
        flags: of the result.
        error: text, where it failed.
    """

    file: InputFile
    line: str = ""
    flags: tuple[str, ...] = ()
    error: str = ""


def read_file(settings: Settings, file: InputFile) -> ReadFile:
    """Reads one file, unless its result is there; an error becomes text."""
    try:
        spectrum = _read(settings, file)
        if spectrum is None:
            return ReadFile(file, NO_PRISM)
        sha256 = file_hash(file.path)
        redshift = settings.redshifts.of(file.path, spectrum.meta)
        there = present_header(settings, file)
        check_same_input(settings, file, sha256, there)
        if not settings.overwrite and is_done(
            settings, file, spectrum.meta.extraction, sha256, redshift, there
        ):
            return ReadFile(file, DONE)
        return ReadFile(file, READ, prism_input(spectrum), redshift, sha256)
    except (SpectrumError, ValueError, OSError) as error:
        return ReadFile(file, FAILED, error=_named(error, file))
    except Exception as error:  # one odd file must not end a batch of thousands
        return ReadFile(file, FAILED, error=_named(error, file, f"{type(error).__name__}: "))


def _read(settings: Settings, file: InputFile) -> ObservedSpectrum | None:
    """The spectrum; None for what was found in a folder and is no prism spectrum."""
    try:
        spectrum = read_spectrum(file.path, extraction=settings.extraction)
    except SpectrumError:
        if file.sought and _is_something_else(file):
            return None
        raise
    return None if file.sought and not is_prism(spectrum) else spectrum


def _is_something_else(file: InputFile) -> bool:
    """Whether a whole file that could not be read has the layout of no spectrum, such as a catalogue."""
    try:
        return identify_format(file.path) is SPECUTILS  # the last resort, for what no reader recognises
    except (SpectrumError, OSError):
        return False


def write_file(settings: Settings, item: tuple[InputFile, Result | str]) -> WrittenFile:
    """Writes one result, and its picture first, so that a result that is there has its picture.

    Args:
        settings: of all files.
        item: file, and its result or the text of an error.
    """
    file, result = item
    if isinstance(result, str):
        return WrittenFile(file, error=result)
    try:
        if settings.plot:
            result.plot(settings.picture_path(file))
        result.write(settings.result_path(file), settings.format)
    except OSError as error:
        if error.errno in _HOPELESS:
            raise OSError(error.errno, error.strerror, str(settings.result_path(file))) from error
        return WrittenFile(file, error=_named(error, file))
    except Exception as error:  # as above
        return WrittenFile(file, error=_named(error, file, f"{type(error).__name__}: "))
    return WrittenFile(file, result_line(file, result), result.flags)


def _named(error: Exception, file: InputFile, kind: str = "") -> str:
    """Text of an error, on one line, that names the file."""
    text = " ".join(str(error).split())
    return f"{kind}{text}" if str(file.path) in text else f"{file.path}: {kind}{text}"


def result_line(file: InputFile, result: Result) -> str:
    """Redshift, confidence, consistency and brightest line of a result, in one line."""
    redshift, lines = result.redshift, result.measurements
    place = "no redshift" if math.isnan(redshift.value) else f"z {redshift.value:.4f}"
    parts = [
        f"{file.path.name}: {place}" + (" (given)" if redshift.given else ""),
        f"Z_CONF {redshift.confidence:.2f}",
        f"CHI2NU {result.chi_square:.2f}",
    ]
    row = lines.brightest()
    if result.flags:
        parts.append(f"no lines: {', '.join(result.flags)}")
    elif row is None:
        parts.append("no line above 3 sigma")
    else:
        parts.append(
            f"{load_lines().names[row]} {lines.flux[row]:.3e} +- {lines.flux_error[row]:.1e} erg/s/cm2"
        )
    return ", ".join(parts)


def present_header(settings: Settings, file: InputFile) -> Mapping[str, Any]:
    """Header of the result that lies where this file's goes; empty for none, and for a damaged one."""
    path = settings.result_path(file)
    if not path.is_file():
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # astropy only warns of a truncated file
            return _header(path, settings.format)
    except (OSError, ValueError, KeyError, TypeError, fits.VerifyError, Warning):
        return {}  # it is made again


def check_same_input(settings: Settings, file: InputFile, sha256: str, there: Mapping[str, Any]) -> None:
    """That the result which is there is not another file's: two folders may hold files of one name.

    A file that changed where it is, or was moved as it is, is the same input.

    Raises:
        SpectrumError: if it is, and would be lost.
    """
    place, content = there.get(INPUT_PATH_HASH), there.get(INPUT_HASH)
    if place and content and place != path_hash(file.path) and content != sha256:
        raise SpectrumError(
            f"{file.path}: {settings.result_path(file)} is the result of another file, which was called "
            f"{there.get(INPUT_NAME)} and lay elsewhere; it would be lost. Choose another --output, or "
            "remove that result."
        )


def is_done(
    settings: Settings,
    file: InputFile,
    extraction: str,
    sha256: str,
    redshift: float,
    there: Mapping[str, Any],
) -> bool:
    """Whether a complete result of this model, input, extraction and redshift is there.

    Args:
        settings: of all files.
        file: which.
        extraction: that was read.
        sha256: of the file.
        redshift: that is known; NaN for none.
        there: of `present_header`.
    """
    if not there or (settings.plot and not settings.picture_path(file).is_file()):
        return False
    if settings.format == "ecsv" and not lines_path(settings.result_path(file)).is_file():
        return False
    given = str(there.get(Z_SOURCE, "")).strip() == GIVEN
    same = given == math.isfinite(redshift)
    if not same or (given and not math.isclose(there.get("Z", math.nan), redshift, rel_tol=1e-12)):
        return False
    return (
        there.get(INPUT_HASH) == sha256
        and there.get(MODEL_HASH) == settings.model_sha256
        and there.get(EXTRACTION, "") == extraction
    )


def _header(path: Path, format: str) -> Mapping[str, Any]:
    if format == "fits":
        with fits.open(path, memmap=False) as hdus:
            _ = hdus[-1].header  # a truncated file has no last HDU
            return dict(hdus[0].header) if len(hdus) == 5 else {}
    from astropy.table.meta import get_header_from_yaml  # slow to import: only for text tables

    with path.open(encoding="utf-8") as file:
        rows = []
        for row in file:
            if not row.startswith("#"):
                break
            rows.append(row.removeprefix("# ").rstrip("\n"))
    return get_header_from_yaml(rows[2:])["meta"]


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
