"""From the networks' outputs for one spectrum to its result: masks, flags, redshift, lines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kspecsr.results.consistency import degraded_to_prism, prism_chi_square
from kspecsr.results.flags import NO_COVERAGE, NOT_FINITE, FlagThresholds, find_flags
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.prism_input import PrismInput, output_mask, prism_wavelength
from kspecsr.results.redshift import summarise_redshift
from kspecsr.results.result import ModelIdentity, Result


class Interpreter:
    """Makes results of one model's outputs.

    Args:
        identity: which model.
        bins: (Z,) ln(1 + z) of P(z).
        thresholds: below what a spectrum is flagged.
    """

    def __init__(self, identity: ModelIdentity, bins: np.ndarray, thresholds: FlagThresholds):
        self.identity = identity
        self.bins = np.asarray(bins, dtype=np.float64)
        self.thresholds = thresholds
        self.wavelength = identity.grid.wavelength
        prism = prism_wavelength()
        self._on_range = (prism >= identity.grid.start) & (prism <= identity.grid.stop)

    def interpret(self, outputs: Mapping[str, np.ndarray], given: PrismInput, redshift: float) -> Result:
        """The result of one spectrum.

        Args:
            outputs: of the composed model, without batch axis.
            given: what the networks saw.
            redshift: that the caller gave; NaN for none.
        """
        mask = output_mask(given.mask, self.wavelength)
        arrays = {
            name: np.asarray(outputs[name], dtype=np.float64)
            for name in ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error", "prism_model")
        }
        lines = LineMeasurements.from_outputs(outputs, self.wavelength, mask)
        known = bool(np.isfinite(redshift))
        value = float(redshift if known else outputs["redshift"])
        summary = summarise_redshift(np.asarray(outputs["redshift_probability"]), self.bins, value, known)
        flags = self._flags(given, arrays, mask, summary, lines)
        chi_square = float(outputs["chi_square"])
        if flags:
            lines = lines.blanked()
            arrays, chi_square = self._first_stage_alone(arrays, given)
        if NO_COVERAGE in flags and not summary.given:
            summary = summarise_redshift(np.zeros(self.bins.size), self.bins, float("nan"))
        shown = {
            name: np.where(mask, np.nan, values) for name, values in arrays.items() if name != "prism_model"
        }
        return Result(
            observed=given.observed,
            model=self.identity,
            wavelength=self.wavelength,
            **shown,
            mask=mask,
            redshift=summary,
            measurements=lines,
            chi_square=chi_square,
            flags=flags,
            prism_wavelength=prism_wavelength(),
            prism_flux=given.flux,
            prism_error=given.error,
            prism_mask=given.mask,
            prism_model=arrays["prism_model"],
        )

    def _flags(self, given: PrismInput, arrays, mask, summary, lines) -> tuple[str, ...]:
        rows = self._on_range
        flags = find_flags(
            given.flux[rows],
            given.error[rows],
            given.mask[rows],
            summary.confidence,
            summary.given,
            int(lines.in_range.sum()),
            self.thresholds,
        )
        finite = all(np.isfinite(arrays[name][~mask]).all() for name in ("flux", "flux_error"))
        return flags if finite or NO_COVERAGE in flags else (*flags, NOT_FINITE)

    def _first_stage_alone(self, arrays, given: PrismInput) -> tuple[dict[str, np.ndarray], float]:
        """The spectrum without what the last stage makes of a redshift."""
        model = degraded_to_prism(arrays["sr1_flux"], self.identity.grid)
        alone = {
            **arrays,
            "flux": arrays["sr1_flux"],
            "flux_error": arrays["sr1_error"],
            "continuum": np.full(self.wavelength.size, np.nan),
            "prism_model": model,
        }
        return alone, prism_chi_square(given.flux, given.error, given.mask, model)
