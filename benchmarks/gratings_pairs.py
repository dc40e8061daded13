"""Real prism spectra with their gratings: redshifts, zero points, scales, lines beside the gratings' own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from data_pipeline.instrument import instrument_for, load_instrument
from data_pipeline.lines.grating_fit import FittedArm, fit_lines
from data_pipeline.readers import read_spectrum
from kspecsr.enhancement.gratings import read_gratings, with_gratings
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.gratings.joint import JointInput, join
from kspecsr.results.arms import Measured, velocity_between
from kspecsr.results.prism_input import is_prism, prism_input
from kspecsr.results.resolver import Resolver
from kspecsr.results.result import Result

_SURE = 5.0  # S/N in the gratings of lines that are compared


def compare_pairs(resolver: Resolver, folder: str | os.PathLike) -> Iterator[str]:
    """A line of text for each source of a folder with a prism and gratings, and what all say together."""
    ratios, pulls, offsets = [], [], []
    for file in with_gratings(list_inputs([folder]), [folder]):
        if not file.gratings:
            continue
        spectrum = read_spectrum(file.path)
        if not is_prism(spectrum):
            continue
        gratings = read_gratings(file.gratings, spectrum, "3pix")
        (result,) = join(resolver, [JointInput(prism_input(spectrum), gratings)])
        if result.arms is None:
            yield f"{file.path.name}: {result.notes[-1]}"
            continue
        offset = velocity_between(result.arms.prism, Measured(result.redshift.value, result.redshift.error))
        offsets.append(offset.value)
        found = list(_lines_beside(result))
        middle = np.median([ratio for ratio, _ in found] or [np.nan])
        ratios += [ratio for ratio, _ in found]
        pulls += [pull for _, pull in found]
        arms = "; ".join(
            f"{arm.name} scale {arm.scale.value:.2f} +- {arm.scale.error:.2f}, shift "
            f"{arm.shift.value:+.0f} +- {arm.shift.error:.0f}, chi2 {arm.chi_square:.2f}"
            for arm in result.arms.arms
        )
        yield (
            f"{file.path.name}: z {result.redshift.value:.5f} +- {result.redshift.error:.5f}, prism "
            f"{offset.value:+.0f} +- {offset.error:.0f} km/s; {arms}; {len(found)} lines over the gratings' "
            f"{middle:.2f}; {', '.join(result.flags) or 'no flag'}{_broad(result)}"
        )
    if offsets:
        yield (
            f"{len(offsets)} sources: prism over gratings {np.median(offsets):+.0f} km/s (median); "
            f"{len(ratios)} lines of S/N > {_SURE:g} over the gratings' own, on the prism's scale: "
            f"{np.median(ratios):.2f} ({np.percentile(ratios, 16):.2f}-"
            f"{np.percentile(ratios, 84):.2f}), pull {np.median(pulls):+.2f}"
        )


def _broad(result: Result) -> str:
    """Broad components, of models that state them."""
    broad = result.measurements.broad
    if broad is None:
        return ""
    return f"; P_BROAD {broad.probability:.3f}, FWHM {broad.fwhm:.0f} +- {broad.fwhm_error:.0f} km/s"


def _lines_beside(result: Result) -> Iterator[tuple[float, float]]:
    """Flux of each sure line over its grating's own, on the prism's scale, and the difference's pull."""
    for arm in result.arms.arms:
        instrument = load_instrument(instrument_for(arm.name)).with_pixels(arm.spectrum.wavelength)
        own = FittedArm(instrument, arm.spectrum.flux, arm.spectrum.error, ~arm.good)
        alone, lines = fit_lines([own], result.redshift.value), result.measurements
        flux, error = alone.flux * arm.scale.value, alone.error * arm.scale.value
        with np.errstate(invalid="ignore"):
            sure = np.flatnonzero((flux > _SURE * error) & np.isfinite(lines.flux))
        for k in sure[alone.tied_to[sure] == sure]:
            yield (
                float(lines.flux[k] / flux[k]),
                float((lines.flux[k] - flux[k]) / np.hypot(lines.flux_error[k], error[k])),
            )
