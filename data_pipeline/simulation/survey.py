"""The survey: tiers, fields, targets with their ids, and their redshifts."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.simulation.config import Population
from data_pipeline.simulation.draws import Draws
from data_pipeline.tables import read_table

FIELD_CENTRES = {"goods-s": (53.13, -27.80), "goods-n": (189.22, 62.24)}  # deg
_FIELD_HALF_WIDTH = 0.08  # deg
_REACH = 500  # a re-observed galaxy is one of this many before it


@dataclass(frozen=True)
class Tiers:
    """The tiers of JADES DR4.

    Attributes:
        names: e.g. ``goods-s-deephst``.
        share: (t,) share of the targets.
        median_redshift: (t,) of the galaxies with a secure redshift.
        depth: (t,) mean of the latent noise level (standard normal over the whole survey).
        exposure: (t,) typical prism exposure [s].
    """

    names: tuple[str, ...]
    share: np.ndarray
    median_redshift: np.ndarray
    depth: np.ndarray
    exposure: np.ndarray

    def field(self, tier: int) -> str:
        """``goods-n`` or ``goods-s``."""
        return self.names[tier][:7]


@lru_cache(maxsize=1)
def load_tiers() -> Tiers:
    """The shipped table."""
    table = read_table("jades_tiers.ecsv")
    return Tiers(
        names=tuple(str(name) for name in table["tier"]),
        share=table["targets"] / table["targets"].sum(),
        median_redshift=table["median_redshift"],
        depth=table["depth"],
        exposure=table["exposure_s"],
    )


@dataclass(frozen=True)
class Targets:
    """Observations apart from the galaxies' physics.

    Attributes:
        index: (b,) number of the observation.
        galaxy: (b,) number of the observation that first saw this galaxy; its own for most.
        tier: (b,) index into the tiers.
        home_tier: (b,) tier for which the galaxy was selected.
        nirspec_id: (b,) id within the tier.
        ra: (b,) right ascension [deg].
        dec: (b,) declination [deg].
    """

    index: np.ndarray
    galaxy: np.ndarray
    tier: np.ndarray
    home_tier: np.ndarray
    nirspec_id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray


def _first_seen(population: Population, seed: int, index: np.ndarray) -> np.ndarray:
    """Follow re-observations back to the first observation of the galaxy."""
    galaxy = index.copy()
    pending = np.arange(index.size)
    while pending.size:
        draws = Draws(seed, galaxy[pending], population.stream)
        # Backwards only, and number 0 is always new: the chain of re-observations ends.
        again = (draws.uniform("re-observed") < population.reobserved_fraction) & (galaxy[pending] > 0)
        back = 1 + np.floor(draws.uniform("which galaxy again") * np.minimum(galaxy[pending], _REACH))
        galaxy[pending[again]] -= back[again].astype(np.int64)
        pending = pending[again]
    return galaxy


def _tier(population: Population, seed: int, index: np.ndarray, galaxy: np.ndarray) -> np.ndarray:
    """A galaxy's home tier; a re-observation goes to another tier of the same field."""
    tiers = load_tiers()
    cumulative = np.cumsum(tiers.share)
    uniform = Draws(seed, galaxy, population.stream).uniform("tier")
    home = np.searchsorted(cumulative, uniform * cumulative[-1], "right")
    tier = home.copy()
    again = Draws(seed, index, population.stream).uniform("tier of the re-observation")
    for row in np.flatnonzero(galaxy != index):
        field = tiers.field(int(home[row]))
        others = [t for t in range(len(tiers.names)) if t != home[row] and tiers.field(t) == field]
        share = np.cumsum(tiers.share[others])
        tier[row] = others[int(np.searchsorted(share, again[row] * share[-1], "right"))]
    return tier


def draw_targets(population: Population, seed: int, index: np.ndarray) -> Targets:
    """Targets of the observations ``index``.

    Ids: an observation carries its own number, except that some odd ones carry that of the one before
    when it is another galaxy in another tier, as JADES ids repeat. So (tier, id) is unique.
    """
    index = np.asarray(index, dtype=np.int64)
    galaxy = _first_seen(population, seed, index)
    tier = _tier(population, seed, index, galaxy)
    before = np.maximum(index - 1, 0)
    galaxy_before = _first_seen(population, seed, before)
    tier_before = _tier(population, seed, before, galaxy_before)
    draws = Draws(seed, index, population.stream)
    # Half of the observations can borrow, hence the factor.
    borrows = (
        (index % 2 == 1)
        & (draws.uniform("shared id") < 2.0 * population.shared_id_fraction)
        & (tier != tier_before)
        & (galaxy != galaxy_before)
    )
    position = Draws(seed, galaxy, population.stream).uniform("position", 2) * 2.0 - 1.0
    jitter = draws.normal("pointing", 2) * 0.015 / 3600.0  # catalogue positions repeat to 0.05"
    jitter = np.clip(jitter, -0.017 / 3600.0, 0.017 / 3600.0) * (galaxy != index)[:, None]
    centre = np.array([FIELD_CENTRES[load_tiers().field(int(t))] for t in tier])
    dec = centre[:, 1] + _FIELD_HALF_WIDTH * position[:, 1] + jitter[:, 1]
    ra = centre[:, 0] + (_FIELD_HALF_WIDTH * position[:, 0] + jitter[:, 0]) / np.cos(np.radians(dec))
    # A galaxy keeps the tier that it was selected for: its fluxes go with that tier's depth.
    home_tier = np.where(galaxy == index, tier, _tier(population, seed, galaxy, galaxy))
    return Targets(index, galaxy, tier, home_tier, np.where(borrows, before, index) + 1, ra, dec)


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
    """(b,) redshifts, from the tiers (b,) and two uniform numbers (b,) each.

    ``uniform`` picks the redshift, ``is_flat`` decides whether it comes from the population's flat part.
    """
    edges, cumulative = _tier_histograms()
    survey = np.array([np.interp(u, cumulative[t], edges) for u, t in zip(uniform, tier, strict=True)])
    low, high = population.redshift_range
    flat = low + (high - low) * uniform
    return np.where(is_flat < population.flat_redshift_fraction, flat, np.maximum(survey, 0.05))
