"""Chi-square of degraded outputs: the truth, shrunk lines, and what the prism cannot see."""

from dataclasses import replace

import numpy as np
import pytest

from calibration_sample import columns, empty, galaxies, noisy, values
from kspecsr.evaluation.figures.errors import draw_prism_consistency
from kspecsr.evaluation.topics import TOPICS
from kspecsr.measures import prism_consistency
from kspecsr.measures.held_out import Reconstruction
from kspecsr.measures.prism_consistency import chi_square
from kspecsr.results.prism_input import degraded_to_prism, prism_chi_square

summarise = TOPICS["consistency"].summarise


def figures(held_out, made):
    return values(summarise(columns(held_out), prism_consistency.measure(held_out, made)))


@pytest.fixture(scope="module")
def held_out():
    return galaxies()


@pytest.fixture(scope="module")
def truth(held_out):
    return Reconstruction(flux=held_out.target_flux)


def test_the_truth_has_a_chi_square_of_one(held_out, truth):
    found = figures(held_out, truth)
    assert found["prism_chi_square"] == pytest.approx(1.0, abs=0.05)
    assert found["prism_chi_square_poor"] < 0.02
    for wave in ("0.5-1.5", "1.5-2.5", "2.5-3.5", "3.5-6"):
        assert found[f"prism_chi_square[wave {wave}]"] == pytest.approx(1.0, abs=0.1)


def test_row_by_row_as_the_single_spectrum(held_out, truth):
    gappy = truth.flux.copy()
    gappy[::3, 2000:2400] = np.nan
    for flux in (truth.flux, gappy):
        found = chi_square(prism_consistency.measure(held_out, Reconstruction(flux=flux)))
        for row in range(0, len(held_out), 7):
            model = degraded_to_prism(flux[row].astype(float), held_out.grid)
            expected = prism_chi_square(
                held_out.prism_flux[row], held_out.prism_error[row], held_out.prism_mask[row], model
            )
            assert found[row] == pytest.approx(expected, rel=1e-5)


def test_shrunk_lines_and_a_shift_are_seen(held_out, truth):
    lines = held_out.target_flux - held_out.target_continuum
    right = figures(held_out, truth)["prism_chi_square"]
    assert figures(held_out, Reconstruction(truth.flux - 0.5 * lines))["prism_chi_square"] > 1.1 * right
    assert (
        figures(held_out, Reconstruction(np.roll(truth.flux, 15, axis=1)))["prism_chi_square"] > 1.1 * right
    )


def test_it_is_blind_to_what_the_prism_cannot_see_and_to_errors(held_out, truth):
    stripes = np.where(np.arange(held_out.grid.size) % 2, 1.0, -1.0)
    invented = truth.flux + 5.0 * np.median(held_out.prism_error, axis=1, keepdims=True) * stripes
    found, right = figures(held_out, Reconstruction(invented)), figures(held_out, truth)
    assert found["prism_chi_square"] == pytest.approx(right["prism_chi_square"], rel=0.02)
    assert figures(held_out, replace(truth, error=np.ones_like(truth.flux))) == right


def test_nothing_to_measure_is_no_error(held_out):
    one = held_out.rows(slice(0, 1))
    for galaxy, flux in ((empty(one), one.target_flux), (one, np.full_like(one.target_flux, np.nan))):
        measured = prism_consistency.measure(galaxy, Reconstruction(flux=flux))
        assert np.isnan(chi_square(measured)).all()
        assert summarise(columns(galaxy), measured) == {}
    assert figures(one, Reconstruction(one.target_flux))["prism_chi_square"] > 0


def test_figure_of_consistency(held_out, truth):
    made = {"sr2": truth, "sr1": noisy(held_out), "cubic": Reconstruction(np.full_like(truth.flux, np.nan))}
    measured = {name: prism_consistency.measure(held_out, m) for name, m in made.items()}
    figure = draw_prism_consistency(measured)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["SR2", "SR1"]
    assert draw_prism_consistency({}).axes
