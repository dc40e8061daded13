"""Super-resolution of low-resolution galaxy spectra.

Example:
    >>> import kspecsr
    >>> sr = kspecsr.load("default")
    >>> result = sr("spectrum.fits")
    >>> result.redshift.value, result.lines, result.spectrum
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import data_pipeline

if TYPE_CHECKING:
    from astropy.table import QTable

    from kspecsr.results.result import Result
    from kspecsr.super_resolver import SuperResolver

__version__ = "0.1.0"
__all__ = ["line_table", "load", "read_result"]


def load(name_or_folder: str | os.PathLike = "default", precision: str = "float32") -> SuperResolver:
    """Loads a trained model.

    Args:
        name_or_folder: name of a model that ships with the package, or a folder that
            ``kspecsr train`` wrote.
        precision: of the networks' trunks: ``float32``, ``mixed_bfloat16``, or ``auto`` for the faster of
            both on this machine, which changes results by a few hundredths of their errors.

    Returns:
        A callable from a specutils Spectrum, a path, Quantity arrays, or a list of these to results.

    Raises:
        ModelFolderError: for a folder without a complete, undamaged model.
    """
    # TensorFlow takes seconds to import: only once a model is wanted
    from data_pipeline.command_line import suppress_startup_stderr
    from kspecsr.model_settings import find_model

    with suppress_startup_stderr():
        from kspecsr.super_resolver import SuperResolver

        return SuperResolver.from_folder(find_model(name_or_folder), precision=precision)


def read_result(path: str | os.PathLike) -> Result:
    """Reads a result file; see `kspecsr.results.result.Result.read`."""
    # a second of astropy and matplotlib: only once a result is wanted
    from kspecsr.results.result import Result

    return Result.read(path)


def line_table(results: Iterable[Result], names: Iterable[str] | None = None) -> QTable:
    """One table of the lines of many results; see `kspecsr.results.many.lines_of`."""
    from kspecsr.results.many import lines_of  # a second, as above

    return lines_of(results, names)
