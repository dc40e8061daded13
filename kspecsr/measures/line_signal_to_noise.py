"""S/N of lines in a method's spectrum against that in the prism (paper section 4.3, Fig. 8).

A / dA says how well a Gaussian describes the spectrum, not how well the line is known: a smooth invention has
the highest. `kspecsr.measures.line_recovery` tells what it is worth.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.gaussian_fit import fit_gaussians, window_indices
from data_pipeline.resampling import upsample_rows
from kspecsr.measures.estimate import WHOLE, Block, median, share
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.measures.splits import galaxy_parts

# Fig. 8's lines: name to the members of the shipped list that make it up.
LINES = {
    "[OII]": ("[OII]_3727", "[OII]_3730"),
    "Hbeta": ("Hbeta",),
    "[OIII]_5008": ("[OIII]_5008",),
    "Halpha": ("Halpha",),
}
HALF_WINDOW = 20  # pixels (paper: 15 to 20)
_LEAST_GOOD = 0.7  # of a window's pixels
_REACH = 1.0  # FWHM that the centre may move
_WIDTHS = (0.6, 3.0)  # times the width of an unresolved line
_WIDEST_ON_GRID = HALF_WINDOW / 2.0  # pixels: a line that fills the window
_WORTH_COMPARING = 1.0  # S/N in the prism below which a gain is a ratio of noises


def measure(held_out: HeldOut, reconstruction: Reconstruction) -> dict[str, np.ndarray]:
    """A / dA at the known redshift; errors are scaled by the residuals, for methods with errors and without.

    Args:
        held_out: galaxies.
        reconstruction: with a spectrum.

    Returns:
        (B, 4) float32 in the order of `LINES`, NaN where not measured: ``snr`` of the method,
        ``snr_lr`` of the prism interpolated to the grid, as the paper does it, in the same window of
        20 pixels to each side, and ``snr_prism`` of the prism on its own pixels, again 20 to each side.
    """
    grid, prism = held_out.grid, load_instrument(PRISM)
    reference = reference_instrument(grid)
    centre = line_centres(held_out)
    # as the paper does it (section 3.1)
    spectra = held_out.prism_flux, held_out.prism_error, held_out.prism_mask
    sampled, _ = upsample_rows(prism.wavelength, *spectra, grid.wavelength)
    good = np.isfinite(sampled)
    # wide enough for the prism's own lines, as far as the window allows
    widest = np.maximum(
        prism.sigma(np.nan_to_num(centre, nan=1.0)),
        _WIDTHS[1] * reference.sigma(np.nan_to_num(centre, nan=1.0)),
    )
    widest = np.minimum(widest, _WIDEST_ON_GRID * np.nan_to_num(centre, nan=1.0) / grid.sampling)
    own = ~np.asarray(held_out.prism_mask, bool)
    flux = reconstruction.flux
    found = {
        "snr": _signal_to_noise(grid.wavelength, flux, np.isfinite(flux) & good, centre, reference, widest),
        "snr_lr": _signal_to_noise(grid.wavelength, sampled, good, centre, reference, widest),
        "snr_prism": _signal_to_noise(prism.wavelength, held_out.prism_flux, own, centre, prism, None),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def line_centres(held_out: HeldOut) -> np.ndarray:
    """(B, 4) observed wavelengths [um] of `LINES`; NaN for lines that are not known."""
    lines = load_lines()
    centres = []
    for members in LINES.values():
        columns = [lines.index(name) for name in members]
        known = held_out.line_known[:, columns].all(axis=1)
        centres.append(np.where(known, lines.wavelength[columns].mean() * (1 + held_out.redshift), np.nan))
    return np.stack(centres, axis=1)


def blocks(columns: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray]) -> Iterator[Block]:
    """Gains in S/N: medians per line, and the share of galaxies above the one-to-one relation.

    ``snr_gain/LINE`` against the interpolated prism, also by continuum S/N and redshift;
    ``snr_gain_prism/LINE`` against the prism on its own pixels; ``snr_above/LINE``.
    """
    snr, interpolated, prism = (measured[name].astype(float) for name in ("snr", "snr_lr", "snr_prism"))
    both = np.isfinite(snr) & np.isfinite(interpolated)
    for number, line in enumerate(LINES):
        gain, gain_prism = (
            median(
                f"{name}/{line}", snr[:, number] / np.where(base > _WORTH_COMPARING, base, np.nan)[:, number]
            )
            for name, base in (("snr_gain", interpolated), ("snr_gain_prism", prism))
        )
        yield [gain], [WHOLE, *galaxy_parts(columns)]
        yield (
            [gain_prism, share(f"snr_above/{line}", (snr > interpolated)[:, number], both[:, number])],
            [WHOLE],
        )


def _signal_to_noise(wavelength, flux, good, centre, instrument, widest) -> np.ndarray:
    """(B, 4) A / dA in windows around lines."""
    rows, count = centre.shape
    place = centre.ravel()
    index, inside = window_indices(wavelength, place, HALF_WINDOW)
    row = np.repeat(np.arange(rows), count)[:, None]
    usable = inside & good[row, index]
    place = np.where(np.isfinite(place), place, 1.0)
    sigma = instrument.sigma(place)
    largest = _WIDTHS[1] * sigma if widest is None else np.maximum(widest.ravel(), sigma)
    fits = fit_gaussians(
        wavelength[index],
        np.where(usable, np.asarray(flux, float)[row, index], 0.0),
        usable,
        place,
        _REACH * instrument.fwhm(place),
        (_WIDTHS[0] * sigma, largest),
    )
    enough = usable.mean(axis=1) >= _LEAST_GOOD
    return np.where(enough, fits.signal_to_noise, np.nan).reshape(rows, count)
