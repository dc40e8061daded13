"""Input files named by paths, patterns, folders and lists, and the names of their results."""

import glob
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.readers import identify_format, read_spectrum
from data_pipeline.readers.format import ReadOptions
from data_pipeline.readers.recognise import SPECUTILS
from data_pipeline.readers.source import ENDINGS, stem_of
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.results.prism_input import is_prism

RESULT_ENDING = "_sr"
_OWN_RESULTS = ("_sr.fits", "_sr.ecsv", "_sr_lines.ecsv")


@dataclass(frozen=True)
class InputFile:
    """One file.

    Attributes:
        path: path of the spectrum.
        name: name of its results, without ending.
        sought: whether it was found in a folder, where other files than prism spectra are skipped.
        gratings: paths of the gratings that are joined with it.
    """

    path: Path
    name: str
    sought: bool = False
    gratings: tuple[Path, ...] = ()


def list_inputs(
    given: Iterable[str | os.PathLike], hdu: str | int | None = None, row: int | None = None
) -> list[InputFile]:
    """Files that are named by paths, patterns, folders and list files, in order, each once.

    Args:
        given: path of a file; pattern such as ``data/*.fits``, where the shell left it alone; folder, which
            is searched with all below it for FITS and ECSV files, results of this command left out; or
            ``@FILE``, a text file with one of these per line (``#`` starts a comment; paths that are not
            found from here are taken from the folder of FILE); ``@-`` is such a list on standard input.
        hdu: extension that is read, for the names of results.
        row: spectrum of a table that is read, likewise.

    Raises:
        SpectrumError: for a pattern or folder without a file, or a list that cannot be read.
    """
    taken: set[str] = set()
    seen: set[Path] = set()
    files = []
    for path, sought in _expanded(given, set()):
        place = Path(os.path.abspath(path))
        if place in seen:
            continue
        seen.add(place)
        chosen = [f"_{what}{one}" for what, one in (("hdu", hdu), ("row", row)) if one is not None]
        name = _free_name("".join([stem_of(path), *chosen]), taken)
        taken.add(name)
        files.append(InputFile(path, name + RESULT_ENDING, sought))
    return files


def _free_name(stem: str, taken: set[str]) -> str:
    """The stem, or STEM-2, STEM-3, ...: files of one name in several folders get a result each."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def _expanded(given: Iterable[str | os.PathLike], lists: set[Path]) -> Iterator[tuple[Path, bool]]:
    for item in given:
        text = os.fspath(item)
        path = Path(text)
        if text.startswith("@") and not path.exists():
            yield from _expanded(_listed(Path(text[1:]), lists), lists)
        elif path.is_dir():
            yield from ((found, True) for found in _searched(path))
        elif glob.has_magic(text) and not path.exists():
            matches = sorted(glob.glob(text, recursive=True))
            if not matches:
                raise SpectrumError(f"{text}: no file matches this pattern. Check the folder.")
            yield from _expanded(matches, lists)
        else:
            yield path, False


def _searched(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if is_candidate(path.name) and path.is_file())
    if not found:
        raise SpectrumError(f"{folder}: holds no file that ends in {', '.join(ENDINGS)}.")
    return found


def is_candidate(name: str) -> bool:
    """Whether a file in a folder may be a spectrum by its name; own results and hidden files are not."""
    lower = name.lower()
    return lower.endswith(ENDINGS) and not name.startswith(".") and not lower.endswith(_OWN_RESULTS)


def _listed(path: Path, lists: set[Path]) -> list[str]:
    place = Path(os.path.abspath(path))
    if place in lists:
        raise SpectrumError(f"{path}: names itself; a list of files must not.")
    lists.add(place)
    try:
        # Windows editors put a byte-order mark first, which would belong to the first path
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        rows = raw.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpectrumError(
            f"@{path}: no readable list of files ({error}); expected text, one path per line."
        ) from error
    items = [text for row in rows if (text := row.strip()) and not text.startswith("#")]
    if not items:
        raise SpectrumError(f"@{path}: names no file; expected one path per line.")
    return [_from_list(item, path.parent) for item in items]


def _from_list(item: str, folder: Path) -> str:
    """A relative path that is not found from here is taken from the list's folder."""
    if item.startswith("@") or os.path.isabs(item) or os.path.exists(item) or glob.glob(item):
        return item
    return os.path.join(folder, item)


def read_input(file: InputFile, reading: ReadOptions) -> ObservedSpectrum | None:
    """The spectrum of a file; None for what was found in a folder and is no prism spectrum, or no spectrum.

    Raises:
        SpectrumError: for what cannot be read.
    """
    try:
        spectrum = read_spectrum(file.path, **vars(reading))
    except SpectrumError:
        if file.sought and _is_something_else(file):
            return None
        raise
    return None if file.sought and not is_prism(spectrum) else spectrum


def _is_something_else(file: InputFile) -> bool:
    """Whether an unreadable file has the layout of no spectrum, such as a catalogue."""
    try:
        return identify_format(file.path) is SPECUTILS  # the last resort, for what no reader recognises
    except (SpectrumError, OSError):
        return False


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
