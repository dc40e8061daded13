"""All figures of an evaluation, drawn, captioned and in the sections of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.pictures.style import save_picture
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.evaluation.figures.errors import draw_calibration, draw_prior_response, draw_prism_consistency
from kspecsr.evaluation.figures.examples import RULE, Example, draw_examples
from kspecsr.evaluation.figures.lines import (
    draw_line_ratios,
    draw_line_recovery,
    draw_line_signal_to_noise,
    draw_presence,
)
from kspecsr.evaluation.figures.redshift import draw_confidence, draw_redshift
from kspecsr.evaluation.figures.spectra import draw_error_bars, draw_power_spectrum, draw_residual_noise
from kspecsr.evaluation.methods import TITLES
from kspecsr.evaluation.report import Section, ShownFigure, metric_table
from kspecsr.evaluation.store import Chunk
from kspecsr.evaluation.topics import PRIOR, Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FigureSet:
    """Contents of the figures of an evaluation.

    Attributes:
        galaxies: measurements of the held-out galaxies.
        metrics: figures of merit of all methods.
        grid: pixel grid of the targets.
        shown: method of the pictures that show only one.
        examples: galaxies chosen by `RULE`.
        prior: measurements of the prior-response test; None leaves it out.
    """

    galaxies: Chunk
    metrics: Metrics
    grid: UnifiedGrid
    shown: str
    examples: Sequence[Example] = ()
    prior: Chunk | None = None

    def sections(self, folder: Path, advance: Callable[[], None] = lambda: None) -> list[Section]:
        """Draws all figures into a folder and sorts them into sections, without that of real spectra.

        Args:
            folder: of the pictures.
            advance: called after each section.
        """
        sections = []
        for title, prefixes in _SECTIONS.items():
            shown = []
            for section, name, draw, caption in _FIGURES:
                figure = draw(self) if section == title else None
                if figure is not None:
                    shown.append(ShownFigure(save_picture(figure, Path(folder) / f"{name}.png"), caption))
            if shown:
                table = metric_table(f"All figures of {title[0].lower()}{title[1:]}", self.metrics, prefixes)
                sections.append(Section(title, (), shown, [table]))
            advance()
        return sections

    def _measured(self, group: str) -> dict:
        return {method: groups[group] for method, groups in self.galaxies.measured.items()}

    def _draw_examples(self) -> Figure | None:
        return draw_examples(self.examples, TITLES[self.shown]) if self.examples else None

    def _draw_residual_noise(self) -> Figure:
        redshift, spectra = self.galaxies.columns["redshift"], self._measured("spectrum")
        return draw_residual_noise(redshift, spectra, high=self.shown, grid=self.grid)

    def _draw_signal_to_noise(self) -> Figure:
        return draw_line_signal_to_noise({self.shown: self._measured("signal_to_noise")[self.shown]})

    def _draw_calibration(self) -> Figure:
        return draw_calibration(self._measured("pixel_errors"), self._measured("line_errors"))

    def _draw_prior_response(self) -> Figure | None:
        if self.prior is None:
            return None
        measured = {method: groups[PRIOR] for method, groups in self.prior.measured.items()}
        return draw_prior_response(self.prior.columns, measured)


# Sections of the page, and prefixes of the metrics in the table of each.
_SECTIONS = {
    "Spectra": "scale_free amplitude fwhm line_area lines_lost pairs residual power",
    "Lines": "recovery completeness pull ratio_ blended false_ invented presence snr_ broad_",
    "Uncertainty": "coverage pit_ks crps",
    "Redshift": "redshift confidence false_confidence sure_wrong class_",
    "Prior response": "response followed",
    "Prism consistency": "prism_chi_square",
}
# Section, name of the file, what draws the figure (None leaves it out), caption.
_FIGURES = (
    (
        *("Spectra", "error_bars", lambda s: draw_error_bars(s.metrics)),
        "No norm of the error tells a good spectrum from one that is smoothed, shrunk, blurred or merged: "
        "each has a panel. Thick: interval of the median over galaxies; thin: 16-84 %.",
    ),
    ("Spectra", "examples", FigureSet._draw_examples, f"{RULE} After the paper's Fig. 4."),
    (
        *("Spectra", "residual_noise", FigureSet._draw_residual_noise),
        "Residuals sorted by redshift, and their scatter against the noise (the paper's Fig. 6). A line that "
        "was missed is a diagonal streak.",
    ),
    (
        *("Spectra", "power_spectrum", lambda s: draw_power_spectrum(s._measured("spectrum"), high=s.shown)),
        "Power of high-pass parts (101-pixel smoothing taken off) and of residuals (the paper's Fig. 7); the "
        "dashed line is 0.3 of the Nyquist frequency.",
    ),
    (
        *("Lines", "line_signal_to_noise", FigureSet._draw_signal_to_noise),
        "S/N = A / dA of a Gaussian fit, before and after (the paper's Fig. 8). A gain alone proves nothing: "
        "an invented line has a high S/N too. The next figure is what this one hides.",
    ),
    (
        *("Lines", "line_recovery", lambda s: draw_line_recovery(s.galaxies.columns, s._measured("lines"))),
        "Recovered over true flux against the S/N that the prism allows the line, and pulls.",
    ),
    (
        *("Lines", "line_ratios", lambda s: draw_line_ratios(s.galaxies.columns, s._measured("lines"))),
        "Errors of line ratios, apart for pairs that the prism blends.",
    ),
    (
        *("Lines", "presence", lambda s: draw_presence(s.galaxies.columns, s._measured("lines"))),
        "Calibration of the line-presence probability, and ROC curves of finding lines.",
    ),
    (
        *("Uncertainty", "calibration", FigureSet._draw_calibration),
        "Share of true values inside the stated intervals, and the histogram of the probability integral "
        "transform: flat where errors are right. Below: its distance from a flat one.",
    ),
    (
        *("Redshift", "redshift", lambda s: draw_redshift(s._measured("redshift"))),
        "Redshift against truth, PIT of P(z), and how often a stated confidence is right. NMAD is of "
        "dz / (1 + z).",
    ),
    (
        *("Redshift", "confidence", lambda s: draw_confidence(s._measured("redshift")[s.shown], s.shown)),
        "Stated Z_CONF against the share whose redshift is right to 0.01 (1 + z), of everything: what has no "
        "redshift is never right. Numbers are spectra.",
    ),
    (
        *("Prior response", "prior_response", FigureSet._draw_prior_response),
        "A true line ratio is changed in simulation, with the same noise: an exponent of 1 follows the data, "
        "0 recites the prior.",
    ),
    (
        *("Prism consistency", "prism_consistency"),
        lambda s: draw_prism_consistency(s._measured("consistency")),
        "Chi-square per prism pixel of the degraded output; a right output has 1.",
    ),
)
