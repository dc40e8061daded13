"""Broad components of permitted lines as columns of the same linear problem."""

from functools import cache

import keras
import numpy as np
from keras import ops

from data_pipeline.instrument import SPEED_OF_LIGHT
from data_pipeline.lines import load_lines
from kspecsr.layers.line_posterior import LineInformation

# Permitted lines besides those of hydrogen that have broad components; the second of a pair is tied.
_PERMITTED = (
    "CIV_1548",
    "HeII_1640",
    "MgII_2796",
    "HeII_4687",
    "HeI_5878",
    "HeI_7067",
    "OI_8449",
    "HeI_10833",
)


@cache
def broad_fluxes() -> np.ndarray:
    """(K, G) broad flux of each line of the list per free broad flux, float32."""
    lines = load_lines()
    leaders = [k for k, name in enumerate(lines.names) if name in _PERMITTED or np.isfinite(lines.case_b[k])]
    tie = np.zeros((len(lines), len(leaders)), "float32")
    for column, k in enumerate(leaders):
        tie[k, column] = 1.0
        if lines.partner[k]:
            tie[lines.index(lines.partner[k]), column] = 1.0 / lines.ratio[k]
    return tie


@keras.saving.register_keras_serializable("kspecsr")
class BroadLineInformation(LineInformation):
    """As `LineInformation`, with the broad components of permitted lines after the narrow lines.

    All of a spectrum have one width. F counts narrow and broad free fluxes (`broad_fluxes`).

    Inputs:
        ...: those of `LineInformation`; velocity: (B,) one-sigma width of the broad components [km/s].
    """

    def _lines(self, wavelength, prism_sigma, in_range, velocity):
        narrow = super()._lines(wavelength, prism_sigma, in_range)
        tie = broad_fluxes()
        takes_part = np.flatnonzero(tie.any(axis=1))
        centre, sigma, seen = (ops.take(x, takes_part, axis=1) for x in (wavelength, prism_sigma, in_range))
        width = ops.sqrt(sigma**2 + (velocity[:, None] / SPEED_OF_LIGHT * centre) ** 2)
        profile = self._profiles(centre, width) * seen[..., None]
        return ops.concatenate([narrow, ops.matmul(tie[takes_part].T, profile)], axis=1)
