"""Grating files that belong to prism files: named, or found in folders by name or position."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from data_pipeline.jades_names import parse_jades_file_name
from data_pipeline.pairs.matching import GRATING_DISPERSERS, ArchiveFile, match_gratings
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.enhancement.inputs import InputFile, list_inputs


def with_gratings(files: Sequence[InputFile], given: Sequence[str | os.PathLike]) -> list[InputFile]:
    """The files with the gratings that belong to them; see `gratings_of`."""
    found = gratings_of([file.path for file in files], given)
    return [replace(file, gratings=found.get(file.path, ())) for file in files]


def gratings_of(paths: Sequence[Path], given: Sequence[str | os.PathLike]) -> dict[Path, tuple[Path, ...]]:
    """Gratings that belong to prism files.

    Gratings that are named for a single file are its own. Otherwise they are found as `kspecsr data build`
    matches them: JADES files by tier and id, others by position, of each disperser the one whose name is
    most like the prism's.

    Args:
        paths: of prism spectra, and of what else lies in a folder.
        given: gratings as in `list_inputs`.

    Returns:
        Those of each path that has any.

    Raises:
        SpectrumError: for a pattern or folder without a file, or where no grating belongs to any prism.
    """
    named = list_inputs(given)
    if len(paths) == 1 and not any(file.sought for file in named):
        return {paths[0]: tuple(file.path for file in named)}
    gratings = [_archive_file(file.path) for file in named]
    gratings = [one for one in gratings if one and one.disperser in GRATING_DISPERSERS]
    known = [_archive_file(path) for path in paths]
    prisms = [one for one in known if one and one.disperser not in GRATING_DISPERSERS]
    found = zip(prisms, match_gratings(prisms, gratings), strict=True)
    matched = {Path(one.path): tuple(Path(arm.path) for arm in arms) for one, arms in found if arms}
    if not matched:
        raise SpectrumError(
            f"--with {', '.join(map(os.fspath, given))}: none of {len(gratings)} medium gratings there "
            f"belongs to one of {len(prisms)} prism spectra, by JADES name or by position within 0.2 arcsec; "
            "name those of one prism spectrum at a time"
        )
    return matched


def _archive_file(path: Path) -> ArchiveFile | None:
    """What name or header tell of a file; None for one that cannot be read, which is reported later."""
    name = parse_jades_file_name(path.name)
    if name is not None:
        return ArchiveFile(str(path), name.tier, name.source_id, name.disperser)
    try:
        meta = read_spectrum(path).meta
    except (SpectrumError, OSError):
        return None
    return ArchiveFile(str(path), meta.tier, meta.source_id, meta.disperser, meta.ra, meta.dec)


def read_gratings(
    paths: Iterable[str | os.PathLike], prism: ObservedSpectrum, extraction: str
) -> tuple[ObservedSpectrum, ...]:
    """The gratings of a prism spectrum, in the extraction that it was found in."""
    return tuple(read_spectrum(path, extraction=prism.meta.extraction or extraction) for path in paths)
