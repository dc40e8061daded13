"""The model behind the page: loaded in the background, run on one spectrum at a time."""

from __future__ import annotations

import math
import tempfile
import threading
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import kspecsr
from data_pipeline.command_line import suppress_startup_stderr
from data_pipeline.spectrum import ObservedSpectrum

if TYPE_CHECKING:
    from kspecsr.results.result import Result
    from kspecsr.super_resolver import SuperResolver


class ModelRunner:
    """Runs one model, from any thread.

    Args:
        model: name of a shipped model, or a model folder.
    """

    def __init__(self, model: str):
        self._model = model
        self._resolver: SuperResolver | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Loads the model in the background, so that the first spectrum need not wait for it."""
        threading.Thread(target=self._loaded, daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._resolver is not None

    def _loaded(self) -> SuperResolver:
        with self._lock:
            if self._resolver is None:
                with suppress_startup_stderr():
                    self._resolver = kspecsr.load(self._model)
            return self._resolver

    def run(self, observed: ObservedSpectrum, redshift: float) -> Result:
        """The result of one spectrum.

        Args:
            observed: the spectrum.
            redshift: to place the lines at; NaN to infer it.

        Raises:
            ModelFolderError: for a model that cannot be loaded.
            SpectrumError: for what is no prism spectrum.
        """
        resolver = self._loaded()
        with self._lock:
            return resolver(observed, None if math.isnan(redshift) else redshift)


def as_file(result: Result, format: str) -> BytesIO:
    """A result as one file: FITS, or the two ECSV tables in a zip archive.

    Args:
        result: what is written.
        format: ``fits`` or ``ecsv``.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = result.write(Path(folder) / f"spectrum_sr.{format}", format)
        if format == "fits":
            return BytesIO(files[0].read_bytes())
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name)
        packed.seek(0)
        return packed
