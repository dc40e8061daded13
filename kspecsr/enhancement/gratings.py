"""Grating files that belong to prism files: named, or found in folders by name or position."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_pipeline.jades_names import parse_jades_file_name
from data_pipeline.pairs.matching import GRATING_DISPERSERS, ArchiveFile, match_gratings
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.enhancement.inputs import InputFile, list_inputs


def with_gratings(files: Sequence[InputFile], given: Sequence[str | os.PathLike]) -> list[InputFile]:
    """The files with the gratings that belong to them.

    Gratings that are named for a single file are its own. Otherwise they are found as `kspecsr data build`
    matches them: JADES files by tier and id, others by position, of each disperser the one whose name is
    most like the prism's.

    Args:
        files: prism spectra, and what else lies in a folder.
        given: gratings as in `list_inputs`.

    Raises:
        SpectrumError: for a pattern or folder without a file, or where no grating belongs to any prism.
    """
    named = list_inputs(given)
    if len(files) == 1 and not any(file.sought for file in named):
        return [replace(files[0], gratings=tuple(file.path for file in named))]
    gratings = [one for one in map(_archive_file, named) if one and one.disperser in GRATING_DISPERSERS]
    known = [_archive_file(file) for file in files]
    prisms = [one for one in known if one and one.disperser not in GRATING_DISPERSERS]
    found = dict(zip((one.path for one in prisms), match_gratings(prisms, gratings), strict=True))
    if not any(found.values()):
        raise SpectrumError(
            f"--with {', '.join(map(os.fspath, given))}: none of {len(gratings)} medium gratings there "
            f"belongs to one of {len(prisms)} prism spectra, by JADES name or by position within 0.2 arcsec; "
            "name those of one prism spectrum at a time"
        )
    return [
        replace(file, gratings=tuple(Path(one.path) for one in found.get(str(file.path), ())))
        for file in files
    ]


def _archive_file(file: InputFile) -> ArchiveFile | None:
    """What name or header tell of a file; None for one that cannot be read, which is reported later."""
    name = parse_jades_file_name(file.path.name)
    if name is not None:
        return ArchiveFile(str(file.path), name.tier, name.source_id, name.disperser)
    try:
        meta = read_spectrum(file.path).meta
    except (SpectrumError, OSError):
        return None
    return ArchiveFile(str(file.path), meta.tier, meta.source_id, meta.disperser, meta.ra, meta.dec)


def read_gratings(file: InputFile, prism: ObservedSpectrum, extraction: str) -> tuple[ObservedSpectrum, ...]:
    """The gratings of a file, in the extraction that the prism was found in."""
    return tuple(
        read_spectrum(path, extraction=prism.meta.extraction or extraction) for path in file.gratings
    )
