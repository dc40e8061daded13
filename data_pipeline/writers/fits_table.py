"""Named arrays as a FITS binary table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from astropy.io import fits

_FORMAT = {"f": "D", "i": "K", "b": "L"}


def table_hdu(
    name: str,
    columns: Mapping[str, np.ndarray],
    units: Mapping[str, str] | None = None,
    cards: Iterable[tuple] = (),
) -> fits.BinTableHDU:
    """A binary table of float64, int64 or bool columns.

    Args:
        name: EXTNAME.
        columns: column name to (n,) array; no column gives an empty table.
        units: column name to TUNIT.
        cards: further (keyword, value, comment).
    """
    units = units or {}
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(key, _FORMAT[np.asarray(values).dtype.kind], units.get(key), array=values)
            for key, values in columns.items()
        ],
        name=name,
    )
    table.header.extend(fits.Card(*card) for card in cards)
    return table
