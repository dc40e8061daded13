"""The profile of an emission line: a Gaussian averaged over pixels."""

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import ANGSTROM_PER_UM, SPEED_OF_LIGHT, Instrument

REACH = 6.0  # sigma on either side of a line that are rendered: 2e-9 of the flux lies beyond


def line_sigma(
    instrument: Instrument,
    centre: np.ndarray,
    velocity_sigma: np.ndarray | float,
    pixel: np.ndarray | None = None,
    resolution_scale: np.ndarray | float = 1.0,
) -> np.ndarray:
    """One-sigma width [um] of a line before it is averaged over pixels.

    The instrument's width includes the pixel, whose variance ``pixel^2 / 12`` the average puts back.
    ``pixel`` gives the widths of the pixels at the centres [um] where they are not the instrument's,
    ``velocity_sigma`` is in km/s, and ``resolution_scale`` is a factor on the instrument's resolving power.
    """
    pixel = instrument.pixel_width(centre) if pixel is None else pixel
    variance = (instrument.sigma(centre) / resolution_scale) ** 2 - pixel**2 / 12.0
    # an undersampled line-spread function may be narrower than its pixel
    variance = np.maximum(variance, 1e-4 * pixel**2)
    return np.sqrt(variance + (velocity_sigma / SPEED_OF_LIGHT * centre) ** 2)


def pixel_mean(lower: np.ndarray, upper: np.ndarray, centre: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Mean over pixels of a Gaussian of unit area [1/um].

    Bounds of pixels, centre and width before the average [um] are broadcast against each other.
    """
    return (ndtr((upper - centre) / sigma) - ndtr((lower - centre) / sigma)) / (upper - lower)


def pixel_mean_gradient(
    lower: np.ndarray, upper: np.ndarray, centre: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of `pixel_mean` by centre and by width [1/um^2]."""
    below, above = ((edge - centre) / sigma for edge in (lower, upper))
    at_below, at_above = (np.exp(-0.5 * end**2) / np.sqrt(2.0 * np.pi) for end in (below, above))
    area = sigma * (upper - lower)
    return (at_below - at_above) / area, (below * at_below - above * at_above) / area


def line_windows(
    bounds: np.ndarray, centre: np.ndarray, sigma: np.ndarray, first: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lines of unit flux on the pixels around each.

    ``first`` (...) is the first of the ``count`` pixels of each window, which may reach beyond the ends.
    Bounds (2, n), centres and widths before the average (...) are in um.

    Returns:
        (..., count) pixels, clipped to those there are, and (..., count) flux density [1/Angstrom], 0 for
        pixels beyond the ends.
    """
    index = first[..., None] + np.arange(count)
    inside = (index >= 0) & (index < bounds.shape[1])
    index = np.clip(index, 0, bounds.shape[1] - 1)
    density = pixel_mean(*bounds[:, index], centre[..., None], sigma[..., None])
    return index, density * inside / ANGSTROM_PER_UM


def scattered(rows: np.ndarray, index: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(rows, pixels) sums of values that belong to rows and pixels, broadcast against each other."""
    # bincount adds up repeated places, which fancy assignment does not, and is far faster than `np.add.at`.
    flat = (rows * shape[1] + index).ravel()
    return np.bincount(flat, values.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def render_lines(
    instrument: Instrument,
    centre: np.ndarray,
    flux: np.ndarray,
    velocity_sigma: np.ndarray,
    resolution_scale: np.ndarray | float = 1.0,
    row: np.ndarray | None = None,
    rows: int | None = None,
) -> np.ndarray:
    """Flux density of unblended or blended lines on an instrument's pixels.

    Args:
        instrument: pixels and line-spread function.
        centre: (n,) observed wavelengths [um].
        flux: (n,) line fluxes [erg/s/cm2].
        velocity_sigma: (n,) intrinsic one-sigma widths [km/s].
        resolution_scale: (n,) or one factor on the instrument's resolving power.
        row: (n,) spectrum to which each line belongs; all to one when left out.
        rows: number of spectra.

    Returns:
        (rows, pixels) flux density [erg/s/cm2/A].
    """
    centre, flux = np.asarray(centre, float), np.asarray(flux, float)
    row = np.zeros(centre.size, np.int64) if row is None else np.asarray(row)
    rows = (int(row.max()) + 1 if row.size else 1) if rows is None else rows
    lower, upper = instrument.bounds
    pixel = np.clip(np.searchsorted(upper, centre), 0, lower.size - 1)
    sigma = line_sigma(instrument, centre, velocity_sigma, (upper - lower)[pixel], resolution_scale)
    first = np.searchsorted(upper, centre - REACH * sigma)
    count = np.searchsorted(lower, centre + REACH * sigma) - first
    count[flux == 0] = 0
    out = np.zeros((rows, lower.size))
    # Lines of similar extent are computed together, so that one broad line does not widen all windows.
    for low, high in ((0, 16), (16, 32), (32, 128), (128, lower.size)):
        chosen = np.flatnonzero((count > low) & (count <= high))
        if chosen.size:
            span = int(count[chosen].max())
            index, density = line_windows(
                instrument.bounds, centre[chosen], sigma[chosen], first[chosen], span
            )
            # Each line ends at its own reach, or the sum would depend on which others are in its group.
            density *= np.arange(span) < count[chosen, None]
            out += scattered(row[chosen, None], index, density * flux[chosen, None], out.shape)
    return out
