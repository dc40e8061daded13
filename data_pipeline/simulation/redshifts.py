"""Redshifts: the JADES histogram by tier, with a flat part if wanted."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_pipeline.simulation.config import Population
from data_pipeline.simulation.survey import load_tiers
from data_pipeline.tables import read_table


@lru_cache(maxsize=1)
def _tier_histograms() -> tuple[np.ndarray, np.ndarray]:
    """Bin edges and (tiers, edges) cumulative shares.

    The catalogue's histogram is of all tiers; each tier gets it tilted by a power of (1 + z) that
    gives the tier its own median.
    """
    table = read_table("jades_redshifts.ecsv")
    edges = np.append(table["z_lo"], table["z_hi"][-1])
    middle = 0.5 * (edges[1:] + edges[:-1])

    def cumulative(power: float) -> np.ndarray:
        share = table["count"] * ((1.0 + middle) / 4.0) ** power
        return np.concatenate([[0.0], np.cumsum(share) / share.sum()])

    rows = []
    powers = np.linspace(-3.0, 3.0, 241)
    medians = np.array([np.interp(0.5, cumulative(power), edges) for power in powers])
    for median in load_tiers().median_redshift:
        rows.append(cumulative(float(np.interp(median, medians, powers))))
    return edges, np.array(rows)


def draw_redshifts(
    population: Population, tier: np.ndarray, uniform: np.ndarray, is_flat: np.ndarray
) -> np.ndarray:
    """(b,) redshifts.

    Args:
        population: gives the flat part's share and range.
        tier: (b,) index into the tiers.
        uniform: (b,) uniform numbers that pick the redshift.
        is_flat: (b,) uniform numbers that decide whether it comes from the flat part.
    """
    edges, cumulative = _tier_histograms()
    survey = np.array([np.interp(u, cumulative[t], edges) for u, t in zip(uniform, tier, strict=True)])
    low, high = population.redshift_range
    flat = low + (high - low) * uniform
    return np.where(is_flat < population.flat_redshift_fraction, flat, np.maximum(survey, 0.05))
