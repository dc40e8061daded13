"""All figures of an evaluation, drawn, captioned and in the sections of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.pictures.style import save_picture
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.evaluation.config import TITLES
from kspecsr.evaluation.figures.calibration import draw_calibration
from kspecsr.evaluation.figures.error_bars import draw_error_bars
from kspecsr.evaluation.figures.examples import RULE, Example, draw_examples
from kspecsr.evaluation.figures.line_ratios import draw_line_ratios
from kspecsr.evaluation.figures.line_recovery import draw_line_recovery
from kspecsr.evaluation.figures.line_signal_to_noise import draw_line_signal_to_noise
from kspecsr.evaluation.figures.power_spectrum import draw_power_spectrum
from kspecsr.evaluation.figures.presence import draw_presence
from kspecsr.evaluation.figures.prior_response import draw_prior_response
from kspecsr.evaluation.figures.prism_consistency import draw_prism_consistency
from kspecsr.evaluation.figures.redshift import draw_redshift
from kspecsr.evaluation.figures.residual_noise import draw_residual_noise
from kspecsr.evaluation.groups import PRIOR, Metrics
from kspecsr.evaluation.report import Section, ShownFigure, metric_table
from kspecsr.evaluation.store import Chunk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sections = list[Section]


class FigureSet:
    """Draws figures into a folder and puts them into sections.

    Args:
        folder: of the pictures.
        galaxies: measurements.
        metrics: of them.
        grid: of the targets.
        shown: the method that pictures of one method show.
    """

    def __init__(self, folder: Path, galaxies: Chunk, metrics: Metrics, grid: UnifiedGrid, shown: str):
        self.folder, self.galaxies, self.metrics = Path(folder), galaxies, metrics
        self.grid, self.shown = grid, shown

    def sections(
        self,
        examples: Sequence[Example],
        prior: Chunk | None,
        advance: Callable[[], None] = lambda: None,
    ) -> Sections:
        """All sections but that of real spectra.

        Args:
            examples: galaxies chosen by the rule.
            prior: measurements of the prior-response test; None leaves it out.
            advance: called after each section.
        """
        made = []
        parts = (self._spectra(examples), self._lines(), self._uncertainty(), self._redshift())
        for section in parts:
            made.append(section)
            advance()
        if prior is not None:
            made.append(self._prior(prior))
            advance()
        made.append(self._consistency())
        advance()
        return made

    def _spectra(self, examples: Sequence[Example]) -> Section:
        columns = self.galaxies.columns
        spectrum = self._measured("spectrum")
        figures = [
            self._draw(
                "error_bars",
                lambda: draw_error_bars(self.metrics),
                "No norm of the error tells a good spectrum from one that is smoothed, shrunk, blurred or "
                "merged: each has a panel. Thick: interval of the median over galaxies; thin: 16-84 %.",
            )
        ]
        if examples:
            figures.append(
                self._draw(
                    "examples",
                    lambda: draw_examples(examples, TITLES[self.shown]),
                    f"{RULE} After the paper's Fig. 4.",
                )
            )
        figures += [
            self._draw(
                "residual_noise",
                lambda: draw_residual_noise(
                    columns["redshift"], spectrum, "cubic", self.shown, grid=self.grid
                ),
                "Residuals sorted by redshift, and their scatter against the noise (the paper's Fig. 6). "
                "A line that was missed is a diagonal streak.",
            ),
            self._draw(
                "power_spectrum",
                lambda: draw_power_spectrum(spectrum, "cubic", self.shown),
                "Power of high-pass parts (101-pixel smoothing taken off) and of residuals (the paper's "
                "Fig. 7); the dashed line is 0.3 of the Nyquist frequency.",
            ),
        ]
        prefix = "scale_free amplitude fwhm line_area lines_lost pairs residual power"
        return Section("Spectra", (), figures, [metric_table("All figures of spectra", self.metrics, prefix)])

    def _lines(self) -> Section:
        columns, lines = self.galaxies.columns, self._measured("lines")
        figures = [
            self._draw(
                "line_signal_to_noise",
                lambda: draw_line_signal_to_noise(
                    {self.shown: self._measured("signal_to_noise")[self.shown]}
                ),
                "S/N = A / dA of a Gaussian fit, before and after (the paper's Fig. 8). A gain alone proves "
                "nothing: an invented line has a high S/N too. The next figure is what this one hides.",
            ),
            self._draw(
                "line_recovery",
                lambda: draw_line_recovery(columns, lines),
                "Recovered over true flux against the S/N that the prism allows the line, and pulls.",
            ),
            self._draw(
                "line_ratios",
                lambda: draw_line_ratios(columns, lines),
                "Errors of line ratios, apart for pairs that the prism blends.",
            ),
            self._draw(
                "presence",
                lambda: draw_presence(columns, lines),
                "Is a presence of 0.7 right in 7 of 10 cases, and does it tell lines from none?",
            ),
        ]
        prefix = "recovery completeness pull ratio_ blended false_ invented presence snr_"
        return Section("Lines", (), figures, [metric_table("All figures of lines", self.metrics, prefix)])

    def _uncertainty(self) -> Section:
        figure = self._draw(
            "calibration",
            lambda: draw_calibration(self._measured("pixel_errors"), self._measured("line_errors")),
            "Share of true values inside the stated intervals, and the histogram of the probability integral "
            "transform: flat where errors are right.",
        )
        prefix = "coverage pit_ks crps"
        table = metric_table("All figures of uncertainty", self.metrics, prefix)
        return Section("Uncertainty", (), [figure], [table])

    def _redshift(self) -> Section:
        figure = self._draw(
            "redshift",
            lambda: draw_redshift(self._measured("redshift")),
            "Redshift against truth, PIT of P(z), and how often a stated confidence is right. NMAD is of "
            "dz / (1 + z).",
        )
        prefix = "redshift confidence false_confidence"
        table = metric_table("All figures of redshifts", self.metrics, prefix)
        return Section("Redshift", (), [figure], [table])

    def _prior(self, prior: Chunk) -> Section:
        measured = {method: groups[PRIOR] for method, groups in prior.measured.items()}
        figure = self._draw(
            "prior_response",
            lambda: draw_prior_response(prior.columns, measured),
            "A true line ratio is changed in simulation, with the same noise: an exponent of 1 follows the "
            "data, 0 recites the prior.",
        )
        table = metric_table("All figures of the prior-response test", self.metrics, "response followed")
        return Section("Prior response", (), [figure], [table])

    def _consistency(self) -> Section:
        figure = self._draw(
            "prism_consistency",
            lambda: draw_prism_consistency(self._measured("consistency")),
            "Chi-square per prism pixel of the degraded output; a right output has 1.",
        )
        table = metric_table("All figures of consistency", self.metrics, "prism_chi_square")
        return Section("Prism consistency", (), [figure], [table])

    def _measured(self, group: str) -> dict:
        return {method: groups[group] for method, groups in self.galaxies.measured.items()}

    def _draw(self, name: str, draw: Callable[[], Figure], caption: str) -> ShownFigure:
        return ShownFigure(save_picture(draw(), self.folder / f"{name}.png"), caption)
