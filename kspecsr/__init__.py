"""Super-resolution of low-resolution galaxy spectra.

Example:
    >>> import kspecsr
    >>> sr = kspecsr.load("default")
    >>> result = sr("spectrum.fits")
    >>> result.redshift.value, result.lines, result.spectrum
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kspecsr.super_resolver import SuperResolver

__version__ = "0.1.0"
__all__ = ["load"]


def load(name_or_folder: str | os.PathLike = "default") -> SuperResolver:
    """Loads a trained model.

    Args:
        name_or_folder: name of a model that ships with the package, or a folder that
            ``kspecsr train`` wrote.

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

        return SuperResolver.from_folder(find_model(name_or_folder))
