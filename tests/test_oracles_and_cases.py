"""Oracles: the truth at another redshift, and the bound of redshifts; galaxies of the robustness cases."""

import json

import numpy as np
import pytest

from benchmarks import robustness
from benchmarks.robustness_cases import CASES, COLUMNS, case_source, measure_cases, table
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from enhancement_sample import IDENTITY, StandIn, write_stand_in_folder
from kspecsr.configuration import FeedConfig
from kspecsr.evaluation import methods
from kspecsr.evaluation.methods import bounded_redshift, drawn_redshift, redshift_bound, truth_at
from kspecsr.evaluation.population_posterior import PopulationPosterior
from kspecsr.evaluation.sources import SimulatedHeldOut
from kspecsr.layers.line_posterior import free_fluxes
from kspecsr.measures.redshift import nmad
from kspecsr.super_resolver import SuperResolver
from test_evaluation import BINS

GRID = UnifiedGrid(0.7, 5.3, 3000.0)


@pytest.fixture(scope="module")
def galaxies():
    return SimulatedHeldOut(GRID, seed=5, chunk_size=64).chunk(0)


def test_the_truth_at_its_own_redshift_is_itself_and_elsewhere_it_is_moved(galaxies):
    same = truth_at(galaxies, galaxies.redshift)
    np.testing.assert_array_equal(same.flux, galaxies.target_flux.astype(float))
    moved = truth_at(galaxies, np.expm1(np.log1p(galaxies.redshift) + 7.0 / GRID.sampling))
    np.testing.assert_allclose(moved.flux[:, 107:-100], same.flux[:, 100:-107], rtol=1e-6, atol=1e-9)
    far = truth_at(galaxies, galaxies.redshift + 1.0)
    np.testing.assert_array_equal(far.flux, galaxies.target_continuum.astype(float))


def test_the_bound_is_that_of_a_fit_of_the_shift_in_noise(galaxies):
    """Against the scatter of least squares for a shift alone, its error without an unknown zero point."""
    bound = redshift_bound(galaxies)
    assert np.all(bound > 0)
    bright = galaxies.line_snr.max(axis=1)
    assert np.median(bound[bright > 50]) < np.median(bound[bright < 20])
    # an error of the zero point alone: a tenth of a pixel, which is about 1e-4 to 1e-3 of the wavelength
    assert 2e-5 < np.median(bound) < 1e-3
    off = np.log((1 + bounded_redshift(galaxies)) / (1 + galaxies.redshift))
    assert nmad(off / bound) == pytest.approx(1.0, abs=0.4)
    np.testing.assert_array_equal(bounded_redshift(galaxies), bounded_redshift(galaxies))


def test_the_posterior_of_a_population_follows_what_is_measured_and_recites_what_is_not():
    oracle = PopulationPosterior(FeedConfig(population="sky"), GRID, n=600)
    leaders = free_fluxes(67)[1].tolist()
    count, index = len(leaders), [leaders.index(load_lines().index(name)) for name in ("Halpha", "Hbeta")]
    start = np.zeros((2, count))
    start[:, index] = [[300.0, 100.0], [300.0, 200.0]]
    found = {"unit": np.ones((2, count)), "in_range": np.zeros((2, count)), "start": start}
    found["in_range"][:, index] = 1.0
    found["score"] = np.zeros((2, count))
    for precision, response in ((100.0, 1.0), (1e-6, 0.0)):
        found["precision"] = np.zeros((2, count, count))
        found["precision"][:, index[0], index[0]] = 100.0
        found["precision"][:, index[1], index[1]] = precision
        flux = oracle._most_probable(found, np.array([2.0, 2.0]))
        assert flux[:, index[0]] == pytest.approx(300.0, rel=0.01)
        doubled = np.log2(flux[1, index[1]] / flux[0, index[1]])
        assert doubled == pytest.approx(response, abs=0.05)
    assert 0.1 < flux[0, index[1]] / flux[0, index[0]] < 0.4  # Case B with dust


def test_the_drawn_redshift_is_that_of_the_lines():
    rest = load_lines().wavelength
    outputs = {
        "line_wavelength": np.stack([rest * 3.002, rest * 2.0]),
        "line_in_range": np.stack([np.ones(rest.size), np.zeros(rest.size)]),
        "redshift": np.array([2.0, 1.1]),
    }
    np.testing.assert_allclose(drawn_redshift(outputs), [2.002, 1.1])


def first(name):
    made = case_source(CASES[name], GRID, seed=3).chunk(0)
    assert len(made) >= 10
    return made


def test_cases_have_what_their_name_says():
    usual = first("survey")
    assert first("bad_pixels").prism_mask.mean() > usual.prism_mask.mean() + 0.03
    assert first("gap").prism_mask.mean() > usual.prism_mask.mean() + 0.02
    assert first("partial").prism_mask[:, :100].mean() > usual.prism_mask[:, :100].mean()
    assert first("gto-674").prism_mask[:, 674:].all() and not first("dja-v4").prism_mask[:, 674:].all()
    low, high = np.percentile(first("z_9-14.5").redshift, (0, 100))
    assert low >= 9 and high <= 14.5
    snr = first("snr_100-300").continuum_snr
    assert snr.min() >= 100 and snr.max() <= 300
    assert not np.isfinite(first("noise").redshift).any()


def test_quoted_errors_are_wrong_by_what_the_case_says():
    def noise_over_quoted(name):
        made = first(name)
        good = ~made.prism_mask
        both = good[:, :-3] & good[:, 3:]  # three pixels apart noise is independent
        pull = (made.prism_flux[:, 3:] - made.prism_flux[:, :-3]) / np.hypot(
            made.prism_error[:, 3:], made.prism_error[:, :-3]
        )
        return np.median(np.abs(pull[both]))

    usual = noise_over_quoted("survey")
    assert noise_over_quoted("errors_0.7") / usual == pytest.approx(1 / 0.7, rel=0.15)
    assert noise_over_quoted("errors_1.5") / usual == pytest.approx(1 / 1.5, rel=0.15)


def test_a_drift_changes_prism_and_truth_by_the_same_factor():
    usual, drifted = first("survey"), first("drift")
    seen = np.abs(usual.target_flux) > 1e-3
    factor = np.where(seen, drifted.target_flux / np.where(seen, usual.target_flux, 1.0), np.nan)
    assert np.nanmax(factor[seen]) == pytest.approx(np.exp(0.3), rel=0.02)
    assert np.nanmin(factor[seen]) == pytest.approx(np.exp(-0.3), rel=0.02)
    line = usual.line_known & (usual.line_flux > 0)
    ratio = drifted.line_flux[line] / usual.line_flux[line]
    assert 1.1 < ratio.max() <= np.exp(0.301) and np.exp(-0.301) <= ratio.min() < 0.9
    good = ~usual.prism_mask
    signal = usual.prism_flux[good] / usual.prism_error[good]
    np.testing.assert_allclose(drifted.prism_flux[good] / drifted.prism_error[good], signal, rtol=1e-4)


def test_cases_are_measured_written_and_not_measured_again(tmp_path):
    networks = SuperResolver(StandIn(), IDENTITY, BINS)
    names = ["survey", "noise"]
    found = measure_cases(names, networks, "abc", networks.identity.grid, 12, tmp_path, quiet=True)
    content = json.loads((tmp_path / "robustness.json").read_text(), parse_constant=pytest.fail)
    assert list(content["cases"]) == names and content["model"] == "abc"
    assert content["cases"]["survey"]["metrics"]["sr2/redshift_nmad"]["n"] == 12
    lines = table(found).splitlines()
    assert len(lines) == 3 and lines[0].split()[0] == "case"
    assert len(lines[0].split("  ")) >= len(COLUMNS)

    class Broken:
        redshift_bins = BINS

        def predict_arrays(self, *_):
            raise AssertionError("measured again")

    again = measure_cases(names, Broken(), "abc", networks.identity.grid, 12, tmp_path, quiet=True)
    assert table(again) == table(found)


def test_a_gate_sets_the_population_of_cases_and_is_kept_or_broken(tmp_path, capsys, monkeypatch):
    def scan(flux, error, mask):
        found = np.zeros((len(flux), BINS.size))
        found[:, 100] = 1.0
        return np.expm1(np.full(len(flux), BINS[100])), BINS, found

    monkeypatch.setattr(methods, "scan_redshifts", scan)  # seconds per galaxy
    stand_in = SuperResolver(StandIn(), IDENTITY, BINS)
    monkeypatch.setattr(SuperResolver, "from_folder", lambda folder: stand_in)
    folder = write_stand_in_folder(tmp_path / "model")
    command = ["--model", str(folder), "--output", str(tmp_path / "r"), "--n", "4", "--quiet"]
    command += ["--gate", "release", "--templates", "--cases", "quiescent"]
    assert robustness.main(command) == 1
    printed = capsys.readouterr()
    # templates are as wrong as the stand-in: the limit beside theirs is kept
    assert "1 limits of the gate broken" in printed.err
    assert "quiescent: sr2/redshift_confident_outliers: 1, expected at most 0.01" in printed.err
    row = next(line for line in printed.out.splitlines() if line.startswith("sr2/redshift_outliers_0.01"))
    assert row.endswith("at most 0.15 or template_fit/redshift_outliers_0.01 + 0.05")
    assert json.loads((tmp_path / "r" / "robustness.json").read_text())["population"] == "sky"
    quiescent = case_source(CASES["quiescent"], GRID, population="sky").simulated.simulation.population
    assert quiescent.continua == "library" and quiescent.quiescent_fraction == 1.0
    assert quiescent.quasar_fraction == 0.0


def test_an_unknown_case_is_refused(tmp_path, capsys):
    assert robustness.main(["--output", str(tmp_path), "--cases", "gap,moon"]) == 2
    assert "unknown moon; expected some of survey, partial" in capsys.readouterr().err
