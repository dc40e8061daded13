"""Broad lines, wings, absorbers and active nuclei of the simulator."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import POPULATIONS, SimulationConfig, simulate_batch
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.galaxies import draw_galaxies
from data_pipeline.simulation.nuclei import BLENDS, HBETA, Nuclei, blend_integrals, draw_nuclei
from data_pipeline.simulation.survey import draw_targets
from data_pipeline.stellar_library import pixel_edges

LINES = load_lines()
ACTIVE = replace(
    POPULATIONS["wide-sky"],
    quasar_fraction=0.45,
    broad_line_fraction=0.45,
    quiescent_fraction=0.0,
    post_starburst_fraction=0.0,
    noise_fraction=0.0,
)


@pytest.fixture(scope="module")
def galaxies():
    return draw_galaxies(ACTIVE, 3, draw_targets(ACTIVE, 3, np.arange(1500)), LINES)


@pytest.fixture(scope="module", params=["first", "second"])
def batch(request):
    return simulate_batch(np.arange(48), 4, SimulationConfig(ACTIVE, lines=request.param), gratings=False)


def test_power_laws_have_their_level_slopes_and_reddening():
    def nucleus(**changes):
        given = dict(level=2.0, hot=0.0, reddening=0.0, sigma=0.0) | changes
        numbers = {name: np.full(1, value) for name, value in given.items()}
        return Nuclei(slopes=np.array([[-1.6, -0.4]]), blends=np.zeros((1, len(BLENDS))), **numbers)

    x = np.array([0.2, HBETA, 0.5, 1.0])
    light = nucleus().power_law(x)[0]
    assert light[1] == pytest.approx(2.0)
    assert np.log(light[0] / light[1]) / np.log(0.2 / HBETA) == pytest.approx(-1.6)
    assert light[3] / light[2] == pytest.approx(2.0**-0.4)
    screen = nucleus(reddening=0.1).power_law(x) / nucleus().power_law(x)
    assert screen[0] == pytest.approx(10.0 ** (-0.4 * 0.1 * 1.39 * x**-1.2))
    assert nucleus(hot=2.0).power_law(np.array([2.3])) == pytest.approx(
        3.0 * nucleus().power_law(np.array([2.3]))
    )


def test_blends_have_unit_flux_and_lie_where_they_were_published():
    edges, total = pixel_edges(), blend_integrals() * 1e4
    assert total[:, -1] == pytest.approx(np.ones(len(BLENDS)))

    def share(row, low, high):
        return np.diff(np.interp([low, high], edges, total[row]))[0]

    optical, ultraviolet, balmer = (BLENDS.index(n) for n in BLENDS[:3])
    # the blend blueward of Hbeta holds a third of the optical iron (Boroson & Green 1992)
    assert 0.2 < share(optical, 0.4434, 0.4684) < 0.45
    assert share(ultraviolet, 0.22, 0.309) > 0.75
    assert share(balmer, 0.2, 0.3646) > 0.8


def test_bare_nuclei_have_the_published_equivalent_widths(galaxies):
    quasar = np.array(galaxies.kind) == galaxies.kind.max()
    nuclei = galaxies.continua.nuclei
    for name, published in (("Halpha", 195.0), ("Hbeta", 46.0), ("CIII]_1909", 17.0), ("MgII_2796", 20.0)):
        line = LINES.index(name)
        continuum = nuclei.power_law(LINES.wavelength[[line]])[quasar, 0]
        emitted = (galaxies.broad_line_flux + galaxies.absorbed_line_flux)[quasar, line]
        width = emitted / continuum / (1.0 + galaxies.redshift[quasar])
        assert np.median(width) == pytest.approx(published, rel=0.3)
    assert galaxies.redshift[quasar].min() >= 1.0 and galaxies.redshift[quasar].max() <= 10.0


def test_lines_of_the_second_list_leave_the_blends():
    n, second = 200, load_lines("second")
    zero, one, draws = np.zeros(n), np.ones(n), Draws(2, np.arange(n))
    (before, _), (after, broad) = (
        draw_nuclei(lines, zero, one, zero, 3.0 * one, 900.0 * one, draws) for lines in (LINES, second)
    )
    unlisted = BLENDS.index("unlisted lines")
    np.testing.assert_array_equal(np.delete(before.blends, unlisted, 1), np.delete(after.blends, unlisted, 1))
    np.testing.assert_allclose(after.blends[:, unlisted] / before.blends[:, unlisted], 14.4 / 29.4)
    assert after.listed.all() and not before.listed.any()
    near = [
        np.interp([0.1225, 0.1255], pixel_edges(), blend_integrals(listed)[unlisted]) for listed in (0, 1)
    ]
    assert np.diff(near[0]) > 0.3e-4 > 1e-12 > np.diff(near[1])
    width = broad[:, second.index("NV_1239")] + broad[:, second.index("NV_1243")]
    width = width / after.power_law(second.wavelength[[second.index("NV_1239")]])[:, 0] / 4.0
    assert np.median(width) == pytest.approx(12.0, rel=0.1)


def test_brighter_quasars_have_weaker_lines():
    n, line, widths = 300, LINES.index("CIV_1548"), []
    zero, one, draws = np.zeros(n), np.ones(n), Draws(2, np.arange(n))
    for bright in (zero, one):
        nuclei, broad = draw_nuclei(LINES, zero, one, bright, 3.0 * one, 900.0 * one, draws)
        widths.append(np.median(broad[:, line] / nuclei.power_law(LINES.wavelength[[line]])[:, 0]))
    assert np.log10(widths[1] / widths[0]) == pytest.approx(-0.2, abs=0.01)


def test_components_have_the_widths_and_offsets_asked_for(galaxies):
    fwhm = 2.3548 * galaxies.broad_velocity_sigma
    assert 490.0 < fwhm[fwhm > 0].min() < 700.0 and 7000.0 < fwhm.max() < 8010.0
    wings = galaxies.wing_velocity_sigma > 0
    assert 0.2 < wings[fwhm > 0].mean() < 0.4
    wing = 2.3548 * galaxies.wing_velocity_sigma[wings]
    assert wing.min() > 299.0 and wing.max() < 1001.0
    assert np.abs(galaxies.wing_velocity).max() <= 300.0 and np.median(galaxies.wing_velocity[wings]) < -50.0
    absorbed = galaxies.absorbed_line_flux.any(axis=1)
    assert 0.03 < absorbed.mean() < 0.15
    taken = galaxies.absorbed_line_flux[absorbed] / np.maximum(galaxies.broad_line_flux[absorbed], 1e-99)
    assert (galaxies.broad_line_flux >= 0).all() and taken[:, LINES.index("Hbeta")].max() <= 4.0 + 1e-9


def test_fluxes_of_all_components_are_in_the_spectrum(batch):
    step = np.diff(UnifiedGrid().bounds, axis=0)[0] * 1e4
    checked = 0
    for row in np.flatnonzero(batch.absorbed_line_flux.any(axis=1) | (batch.wing_velocity_sigma > 0)):
        centre = batch.lines.wavelength * (1 + batch.redshift[row])
        inside = (centre > 0.7) & (centre < 5.3)
        reach = centre * (0.005 + 4.0 * batch.broad_velocity_sigma[row] / 3e5)
        edge = (np.abs(centre - 0.7) < reach) | (np.abs(centre - 5.3) < reach)
        if batch.line_flux[row, edge].sum() > 1e-3 * batch.line_flux[row, inside].sum():
            continue
        total = ((batch.noise_free[row] - batch.continuum[row]) * step).sum()
        assert total == pytest.approx(batch.line_flux[row, inside].sum(), rel=2e-3, abs=0)
        checked += 1
    assert checked > 3
