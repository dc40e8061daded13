"""Parts of the held-out galaxies and of their lines by which figures of merit are split."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from data_pipeline.lines import list_of

CONTINUUM_SNR = (0.0, 1.0, 3.0, 10.0, np.inf)  # per prism pixel
LINE_SNR = (0.0, 1.0, 3.0, 5.0, 10.0, 30.0, np.inf)
REDSHIFT = (0.0, 2.0, 4.0, 6.0, np.inf)
WAVELENGTH = (0.5, 1.5, 2.5, 3.5, 6.0)  # um

Columns = Mapping[str, np.ndarray]
Parts = Iterator[tuple[str, np.ndarray]]  # as it stands in the name of a figure, e.g. [z 2-4], and bool


def labels(name: str, edges: tuple[float, ...], open_start: bool = False) -> tuple[str, ...]:
    """Names of the bins between edges, e.g. ``snr <1``, ``snr 1-3``, ``snr >30``.

    Args:
        name: name of the quantity.
        edges: increasing; a last one of infinity leaves the last bin open.
        open_start: the first bin is open downwards.
    """
    texts = [f">{low:g}" if np.isinf(high) else f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    if open_start:
        texts[0] = f"<{edges[1]:g}"
    return tuple(f"{name} {text}" for text in texts)


def interval_labels(edges: tuple[float, ...]) -> list[str]:
    """Labels of the bins between edges, e.g. ``[0.7-0.9]``."""
    return [f"[{low:g}-{high:g}]" for low, high in pairwise(edges)]


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


def parts(name: str, values: np.ndarray, edges: tuple[float, ...], open_start: bool = False) -> Parts:
    """Parts by a quantity, e.g. ``[snr 5-10]`` and a bool of the shape of ``values``; see `bin_of`."""
    place = bin_of(values, edges, open_start)
    for number, label in enumerate(labels(name, edges, open_start)):
        yield f"[{label}]", place == number


def galaxy_parts(columns: Columns) -> Parts:
    """Parts (B, 1) by continuum S/N and by true redshift.

    Args:
        columns: small columns of the held-out galaxies.
    """
    # a median S/N below zero is noise, as one of zero
    yield from parts("continuum snr", columns["continuum_snr"][:, None], CONTINUUM_SNR, open_start=True)
    yield from parts("z", columns["redshift"][:, None], REDSHIFT)


def best_line_parts(columns: Columns) -> Parts:
    """Parts (B, 1) by the S/N that the prism allows the best known line; without any a galaxy is in none."""
    snr = np.where(columns["line_known"], columns["line_snr"], -np.inf).max(axis=1, keepdims=True)
    return parts("best line snr", np.where(np.isfinite(snr), snr, np.nan), LINE_SNR, open_start=True)


def line_snr_parts(snr: np.ndarray) -> Parts:
    """Parts by the S/N that the prism allows a line, of the shape of ``snr``."""
    return parts("snr", snr, LINE_SNR, open_start=True)


def line_wavelength_parts(columns: Columns) -> Parts:
    """Parts (B, K) by the observed wavelength of each line of the list."""
    lines = list_of(columns["line_known"].shape[1])
    return parts("wave", lines.wavelength * (1.0 + columns["redshift"][:, None]), WAVELENGTH)


def line_parts(names: tuple[str, ...], of: tuple[str, ...]) -> Parts:
    """Parts (1, K) by the name of the line, ``/Halpha``.

    Args:
        names: lines that get a part of their own.
        of: names of the K lines.
    """
    for name in names:
        yield f"/{name}", np.array([[one == name for one in of]])
