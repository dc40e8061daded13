"""Sizes of sources in the slit: resolving power, slit losses, and the labels that say them."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.simulation import POPULATIONS
from data_pipeline.simulation.extent import (
    POINT,
    TYPICAL_SIZE,
    mean_relative_resolution,
    relative_resolution,
    slit_colour,
)
from data_pipeline.simulation.galaxies import draw_galaxies
from data_pipeline.simulation.observation import render_galaxy_lines
from data_pipeline.simulation.survey import draw_targets

X = np.linspace(0.8, 5.2, 30)
SIZES = np.array([POINT, 0.04, TYPICAL_SIZE, 0.15, 1.0])


@pytest.mark.parametrize("name", [PRISM, *GRATINGS])
def test_resolving_power_falls_with_size_and_stays_between_point_source_and_filled_slit(name):
    instrument = load_instrument(name)
    factor = relative_resolution(instrument, X, SIZES)
    assert np.all(np.diff(factor, axis=0) < 0)
    assert factor[2] == pytest.approx(np.ones(X.size), abs=1e-12)
    filled, point = load_instrument(name, scale=1.0), load_instrument(name, "point", 1.0)
    total = instrument.resolving_power(X) * factor
    inside = (point.table_wavelength[0] < X) & (point.table_wavelength[-1] > X)
    assert np.all(total[:, inside] < point.resolving_power(X)[inside])
    assert np.all(total[:, inside] > 0.85 * filled.resolving_power(X)[inside])


def test_only_spectrographs_know_sizes_and_typical_ones_change_nothing():
    assert relative_resolution(reference_instrument(), X, SIZES) == pytest.approx(np.ones((5, 30)))
    assert np.array_equal(slit_colour(X, np.full(2, TYPICAL_SIZE)), np.ones((2, 30)))


def test_the_slit_takes_the_blue_of_extended_sources_and_the_red_of_the_correction():
    colour = slit_colour(X, SIZES)
    assert slit_colour(np.array([2.5]), SIZES) == pytest.approx(np.ones((5, 1)))
    # what is lost of a point source grows with wavelength, what is lost of an extended one hardly
    assert np.all(np.diff(colour[3]) > 0) and 1.03 < colour[3, -1] / colour[3, 0] < 1.3


def test_lines_have_the_width_of_their_source_and_the_label_is_the_mean_scale():
    population, lines = replace(POPULATIONS["sky"], size_scatter=0.5), load_lines()
    galaxies = draw_galaxies(population, 3, draw_targets(population, 3, np.arange(60)), lines)
    nothing, line = np.zeros_like(galaxies.line_flux), lines.index("Halpha")
    flux = nothing + (np.arange(len(lines)) == line)
    parts = ("broad_line_flux", "wing_line_flux", "absorbed_line_flux")
    galaxies = replace(
        galaxies, line_flux=flux, velocity_sigma=nothing[:, 0], **dict.fromkeys(parts, nothing)
    )
    prism, checked = load_instrument(PRISM, scale=1.0), []
    image = render_galaxy_lines(prism, galaxies, lines, np.full(60, 1.22))
    x, step = prism.wavelength, np.diff(prism.bounds, axis=0)[0]
    for row, centre in enumerate(lines.wavelength[line] * (1.0 + galaxies.redshift)):
        if 1.5 < centre < 4.8:
            mean = np.average(x, weights=image[row] * step)
            width = np.sqrt(np.average((x - mean) ** 2, weights=image[row] * step))
            size = galaxies.size[row : row + 1]
            factor = relative_resolution(prism, np.array([centre]), size)[0, 0]
            assert width == pytest.approx(prism.sigma(centre) / 1.22 / factor, rel=0.02)
            checked.append(factor / mean_relative_resolution(size)[0])
    # the label misses the scale at a wavelength by some per cent
    assert len(checked) > 20 and 0.005 < np.std(checked) < 0.04
