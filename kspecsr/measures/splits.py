"""Parts of the held-out galaxies by which figures are split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

CONTINUUM_SNR = (0.0, 1.0, 3.0, 10.0, np.inf)  # per prism pixel
LINE_SNR = (0.0, 1.0, 3.0, 5.0, 10.0, 30.0, np.inf)
REDSHIFT = (0.0, 2.0, 4.0, 6.0, np.inf)
WAVELENGTH = (0.5, 1.5, 2.5, 3.5, 6.0)  # um
_BY_GALAXY = (("continuum snr", "continuum_snr", CONTINUUM_SNR), ("z", "redshift", REDSHIFT))


def labels(name: str, edges: tuple[float, ...], open_start: bool = False) -> tuple[str, ...]:
    """Names of the bins between edges, e.g. ``snr <1``, ``snr 1-3``, ``snr >30``.

    Args:
        name: of the quantity.
        edges: increasing; a last one of infinity leaves the last bin open.
        open_start: the first bin is open downwards.
    """
    texts = [f">{low:g}" if np.isinf(high) else f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    if open_start:
        texts[0] = f"<{edges[1]:g}"
    return tuple(f"{name} {text}" for text in texts)


def bin_of(values: np.ndarray, edges: tuple[float, ...], open_start: bool = False) -> np.ndarray:
    """Bin of each value, -1 for NaN and what lies outside; upper edges belong to the next bin.

    Args:
        values: of any shape.
        edges: as in `labels`.
        open_start: values below the first edge belong to the first bin.
    """
    values = np.asarray(values, np.float64)
    found = np.searchsorted(edges, values, side="right") - 1
    found = np.where(found >= len(edges) - 1, -1, found)
    if open_start:
        found = np.where(found < 0, np.where(values < edges[0], 0, -1), found)
    return np.where(np.isnan(values), -1, found)


def galaxy_splits(columns: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Parts by continuum S/N and by true redshift.

    Args:
        columns: small columns of the held-out galaxies.

    Yields:
        The part as it stands in the name of a figure, e.g. ``[z 2-4]``, and (B,) bool.
    """
    for name, column, edges in _BY_GALAXY:
        # a median S/N below zero is noise, as one of zero
        place = bin_of(columns[column], edges, open_start=column == "continuum_snr")
        for i, label in enumerate(labels(name, edges, open_start=column == "continuum_snr")):
            yield f"[{label}]", place == i


def line_snr_splits(snr: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Parts by the S/N that the prism allows a line.

    Args:
        snr: of any shape.

    Yields:
        E.g. ``[snr 5-10]``, and bool of the same shape.
    """
    place = bin_of(snr, LINE_SNR, open_start=True)
    for i, label in enumerate(labels("snr", LINE_SNR, open_start=True)):
        yield f"[{label}]", place == i
