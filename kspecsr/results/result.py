"""A super-resolved spectrum with its redshift and lines, as the user gets it."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.pictures.line_marks import line_title
from data_pipeline.pictures.style import png_bytes, save_picture
from kspecsr.results.data import SpectrumResult
from kspecsr.results.files import write_result
from kspecsr.results.picture import draw_enhanced_spectrum
from kspecsr.results.prism_input import display_name
from kspecsr.results.reading import read_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTEBOOK_DPI = 110
_NOTEBOOK_COLUMNS = ("NAME", "WAVE_OBS", "FLUX", "FLUX_ERR", "SNR", "EW_REST", "PRESENCE", "PRIOR_WEIGHT")


class Result(SpectrumResult):
    """One super-resolved spectrum; its fields are those of `kspecsr.results.data.SpectrumResult`."""

    def _repr_html_(self) -> str:
        """For notebooks: redshift, picture, and the detected lines, the surest first."""
        parts = [f"<p>{escape(repr(self))}</p>"]
        if len(self.observed):
            picture = b64encode(png_bytes(self.plot(), _NOTEBOOK_DPI)).decode()
            parts.append(f'<img alt="{escape(repr(self))}" src="data:image/png;base64,{picture}"/>')
        lines = self.line_table()[list(_NOTEBOOK_COLUMNS)][self.measurements.detected]
        if len(lines):
            lines.sort("SNR", reverse=True)
            lines["NAME"] = [line_title(name) for name in lines["NAME"]]
            parts += lines.pformat(max_lines=-1, max_width=-1, html=True)
        return "\n".join(parts)

    def show_in_specviz(self, app: Any) -> None:
        """Loads spectrum, prism and detected lines into jdaviz, whose Specviz shows them.

        Spectra keep mask, errors and redshift; lines are at their rest wavelengths in vacuum.

        Args:
            app: of jdaviz 5 or later: ``jdaviz.gca()`` is the one that ``jdaviz.show()`` displays.
        """
        name, detected = display_name(self.observed), self.measurements.detected
        app.load(self.spectrum, format="1D Spectrum", data_label=f"{name} super-resolved")
        if len(self.observed):
            meta = replace(self.observed.meta, redshift=self.redshift.value)
            prism = self.observed.replace(meta=meta).to_specutils(self.flux_unit)
            app.load(prism, format="1D Spectrum", data_label=f"{name} prism")
        if detected.any():
            lines = self.lines["NAME", "WAVE_REST"][detected]
            lines.rename_columns(["NAME", "WAVE_REST"], ["linename", "rest"])
            lines["listname"], lines.meta["medium"] = "kspecsr", "Vacuum"
            app.load_line_list(lines)

    def plot(self, path: str | os.PathLike | None = None) -> Figure:
        """Draws the result; also writes a PNG where a path is given.

        Raises:
            ValueError: for a result of an ECSV file, which does not hold the prism spectrum.
        """
        if not len(self.observed):
            raise ValueError(
                f"{display_name(self.observed)}: an ECSV result lacks the prism spectrum and P(z), so it "
                "cannot be drawn; read the FITS file, or run the spectrum again"
            )
        figure = draw_enhanced_spectrum(self)
        if path is not None:
            save_picture(figure, path)
        return figure

    def write(self, path: str | os.PathLike, format: str | None = None) -> list[Path]:
        """Writes the result, complete or not at all.

        Args:
            path: file to write; replaced if it exists.
            format: ``fits`` (everything in one file), or ``ecsv``: the spectrum, and beside it the lines in
                ``NAME_lines.ecsv``; None takes it from the ending of the name.

        Returns:
            Files written.

        Raises:
            ValueError: for an unknown format, or a name that ends in neither ``.fits`` nor ``.ecsv`` where
                none is given.
        """
        return write_result(self, path, format)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Result:
        """Reads a result that `write` or ``kspecsr enhance`` wrote.

        A FITS file gives back all of it. An ECSV file holds neither the input nor all of P(z): ``observed``
        has no pixels, the prism pixels are masked, and ``redshift`` has the modes and the quantiles 0.16, 0.5
        and 0.84. Either is written again as the same bytes.

        Args:
            path: FITS file, or the spectrum's ECSV file with ``NAME_lines.ecsv`` beside it.

        Raises:
            FileNotFoundError: where there is no such file.
            ValueError: for a file that is no complete result.
        """
        return read_result(path, cls)
