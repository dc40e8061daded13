"""What falls into each slit: a galaxy or something else, and in some a second source."""

from dataclasses import replace

import numpy as np

from data_pipeline.lines import LineList
from data_pipeline.simulation.config import KINDS, TROUBLES, Population
from data_pipeline.simulation.continua import INTRINSIC_GRID, intrinsic_continua
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.extent import slit_colour
from data_pipeline.simulation.galaxies import Galaxies, draw_galaxies
from data_pipeline.simulation.others import add_others
from data_pipeline.simulation.survey import Targets

_COMPANIONS = 1 << 40  # numbers of second sources: no simulation has as many observations
_RATIO = (-1.0, 0.3)  # log10 of a second source's mean flux over the first's


def draw_slits(
    population: Population, seed: int, targets: Targets, lines: LineList, trouble: np.ndarray
) -> tuple[Galaxies, np.ndarray, np.ndarray]:
    """Sources of the observations ``targets``, their light, and who has two.

    Of two sources the first is one that has a redshift, if either has. Beside nothing there is no second
    source.

    Args:
        population: kinds and their shares.
        seed: of the simulation.
        targets: b observations.
        lines: the line list.
        trouble: (b,) index into `TROUBLES`, -1 for none.

    Returns:
        The first sources, with the second ones as ``companion``; (b, n) continua of all on `INTRINSIC_GRID`
        [erg/s/cm2/A]; (b,) trouble, without two sources where there are not two.
    """
    shared = np.flatnonzero(trouble == TROUBLES.index("two-sources"))
    every = targets
    if shared.size:
        number = np.concatenate([targets.galaxy, targets.index[shared] + _COMPANIONS])
        tier = np.concatenate([targets.home_tier, targets.home_tier[shared]])
        every = replace(targets, galaxy=number, home_tier=tier)
    galaxies = draw_galaxies(population, seed, every, lines)
    light = intrinsic_continua(galaxies.continua, galaxies.redshift)
    if population.size_scatter:  # what the slit passes is the truth
        seen = lines.wavelength * (1.0 + galaxies.redshift[:, None])
        galaxies = galaxies.times(slit_colour(seen, galaxies.size))
        light *= slit_colour(INTRINSIC_GRID.wavelength, galaxies.size)
    draws = Draws(seed, every.galaxy, population.stream)
    add_others(light, galaxies.kind, every.home_tier, population, draws)
    if not shared.size:
        return galaxies, light, trouble

    shines = galaxies.kind != KINDS.index("noise")
    first, second = np.arange(trouble.size), trouble.size + np.arange(shared.size)
    two = shines[shared] & shines[second]
    trouble = trouble.copy()
    trouble[shared[~two]] = -1
    shared, second = shared[two], second[two]
    swapped = galaxies.has_redshift[second] & ~galaxies.has_redshift[shared]
    first[shared[swapped]] = second[swapped]
    second = np.where(swapped, shared, second)
    uniform = Draws(seed, targets.index[shared], population.stream).uniform("second source")
    ratio = 10.0 ** (_RATIO[0] + (_RATIO[1] - _RATIO[0]) * uniform)
    factor = ratio * light[first[shared]].mean(axis=1) / light[second].mean(axis=1)
    companions = galaxies.rows(second).times(factor[:, None])
    total = light[first]
    total[shared] += factor[:, None] * light[second]
    return replace(galaxies.rows(first), companion=(shared, companions)), total, trouble
