"""Which chi-squares of the degraded output are usual, by S/N: measured on simulated spectra."""

import numpy as np

from kspecsr.configuration.calibration import FitTable

_SHARES = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.03, 0.01)  # of larger chi-squares
FEWEST = 100  # spectra
_ABOUT = 400  # spectra about a knot of S/N
_BEYOND = 4  # spectra, at least, beyond the last chi-square of a knot


def measure_fit(chi_square: np.ndarray, signal_to_noise: np.ndarray) -> FitTable | None:
    """Chi-squares that are usual, at knots of S/N.

    Args:
        chi_square: (n,) per pixel.
        signal_to_noise: (n,) median of good pixels.

    Returns:
        None for fewer than `FEWEST` spectra.
    """
    used = np.isfinite(chi_square) & (chi_square > 0) & np.isfinite(signal_to_noise)
    order = np.flatnonzero(used)[np.argsort(signal_to_noise[used])]
    if order.size < FEWEST:
        return None
    parts = np.array_split(order, max(1, order.size // _ABOUT))
    shares = [share for share in _SHARES if share * parts[-1].size >= _BEYOND]
    places = [float(np.log10(max(np.median(signal_to_noise[part]), 1e-4))) for part in parts]
    places, first = np.unique(places, return_index=True)  # empty spectra have negative S/N, all in one place
    rows = [np.quantile(chi_square[parts[i]], 1.0 - np.array(shares)).tolist() for i in first]
    return FitTable(tuple(places.tolist()), tuple(shares), tuple(map(tuple, rows)))
