"""Registers the formats of this project with specutils.

`data_pipeline/__init__.py` has this done when specutils is imported, before or after `data_pipeline`, so
that importing `data_pipeline` alone costs nothing. The priority is above specutils' own loaders, of which
"JWST x1d" accepts JADES files but loses their errors.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from data_pipeline.readers.header import Format
from data_pipeline.readers.recognise import FORMATS, identify_format, read_spectrum
from data_pipeline.spectrum import SpectrumError

PRIORITY = 100
# specutils reads plain tables and its own formats itself
REGISTERED: tuple[Format, ...] = tuple(known for known in FORMATS if known.name not in ("table", "specutils"))


def register(specutils) -> None:
    """Registers a reader per format, for `Spectrum.read` and `SpectrumList.read`.

    Args:
        specutils: the imported module.
    """
    from specutils.io.registers import data_loader  # specutils is imported already when this runs

    for known in REGISTERED:
        data_loader(
            f"kspecsr {known.name}",
            identifier=_identifier(known.name),
            dtype=specutils.Spectrum,
            extensions=["fits", "fits.gz"],
            priority=PRIORITY,
            force=True,
        )(_load)


def _load(file, **options):
    """Reads one file; `options` are those of `data_pipeline.readers.read_spectrum`."""
    # astropy hands over the open file whenever it had to recognise the format
    path = file if isinstance(file, str | os.PathLike) else file.name
    return read_spectrum(path, **options).to_specutils()


def _identifier(name: str):
    def identify(origin, path, *args, **kwargs) -> bool:
        if origin != "read" or not isinstance(path, str | os.PathLike) or not Path(path).is_file():
            return False
        status = os.stat(path)
        return _format_name(os.fspath(path), status.st_mtime_ns, status.st_size) == name

    return identify


@lru_cache(maxsize=16)  # astropy asks every registered format in turn: open the file once
def _format_name(path: str, modified: int, size: int) -> str:
    try:
        return identify_format(path).name
    except SpectrumError:
        return ""  # not ours to judge: specutils goes on with its own loaders
