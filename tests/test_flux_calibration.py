"""Errors of pixels and line fluxes: right ones, off by two, biased, and what coverage cannot see."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from calibration_sample import columns, empty, galaxies, noisy, values
from data_pipeline.instrument import reference_instrument
from data_pipeline.lines import load_lines
from kspecsr.evaluation.figures.errors import draw_calibration
from kspecsr.evaluation.topics import TOPICS
from kspecsr.measures import prism_consistency
from kspecsr.measures.calibration import measure_lines, measure_pixels
from kspecsr.measures.held_out import Reconstruction
from kspecsr.measures.spectrum import NO_REGION, REGIONS, pixel_regions

PARTS = (*REGIONS, "lines")
PIXELS, LINES = TOPICS["pixel_errors"], TOPICS["line_errors"]


def figures(held_out, made):
    """All figures of both topics."""
    found = {}
    for topic in (PIXELS, LINES):
        found |= values(topic.summarise(columns(held_out), topic.measure(held_out, made)))
    return found


@pytest.fixture(scope="module")
def held_out():
    return galaxies()


@pytest.fixture(scope="module")
def right(held_out):
    return figures(held_out, noisy(held_out))


def test_right_errors_have_nominal_coverage_and_uniform_pit(right):
    for part in PARTS:
        for level in (50, 68, 90, 95):
            assert right[f"coverage_{level}/{part}"] == pytest.approx(level / 100, abs=0.015), part
        assert right[f"pit_ks/{part}"] < 0.02, part
        assert right[f"crps_over_stated/{part}"] == pytest.approx(1.0, abs=0.03)
        assert right[f"crps/{part}"] == pytest.approx(1.0 / np.sqrt(np.pi), rel=0.03)


@pytest.mark.parametrize("stated", [0.5, 2.0])
def test_errors_off_by_two_are_seen_and_nothing_else_sees_them(held_out, right, stated):
    made, plain = noisy(held_out, stated=stated), noisy(held_out)
    found = figures(held_out, made)
    u = np.linspace(0.001, 0.999, 999)
    distance = np.abs(norm.cdf(stated * norm.ppf(u)) - u).max()
    for part in PARTS:
        assert found[f"coverage_68/{part}"] == pytest.approx(
            2 * norm.cdf(stated * norm.ppf(0.84)) - 1, abs=0.015
        )
        assert found[f"pit_ks/{part}"] == pytest.approx(distance, abs=0.02)
        assert found[f"crps/{part}"] > 1.05 * right[f"crps/{part}"]
        assert (found[f"crps_over_stated/{part}"] > 1.2) == (stated < 1)
    # the recovered flux is the same, and so is all that is made of it
    assert np.array_equal(made.line_flux, plain.line_flux)
    chi = [prism_consistency.measure(held_out, m)["prism_squares"] for m in (made, plain)]
    assert np.array_equal(*chi)


def test_a_bias_of_one_sigma_is_a_distance_of_the_pit(held_out):
    found = figures(held_out, noisy(held_out, bias=1.0))
    for part in PARTS:
        assert found[f"pit_ks/{part}"] == pytest.approx(2 * norm.cdf(0.5) - 1, abs=0.02)
        assert found[f"coverage_68/{part}"] == pytest.approx(
            norm.cdf(norm.ppf(0.84) - 1) - norm.cdf(norm.ppf(0.16) - 1), abs=0.02
        )


def test_coverage_is_blind_to_a_poor_method_that_says_so_and_crps_is_not(held_out, right):
    found = figures(held_out, noisy(held_out, noise=10.0))
    for part in PARTS:
        assert found[f"coverage_68/{part}"] == pytest.approx(0.68, abs=0.015)
        assert found[f"pit_ks/{part}"] < 0.02
        assert found[f"crps/{part}"] == pytest.approx(10.0 * right[f"crps/{part}"], rel=0.05)


def test_shrunk_lines_are_seen_in_cores_and_line_fluxes_and_not_in_the_continuum(held_out, right):
    made = noisy(held_out)
    lines = held_out.target_flux - held_out.target_continuum
    shrunk = replace(made, flux=made.flux - 0.5 * lines, line_flux=made.line_flux - 0.5 * held_out.line_flux)
    found = figures(held_out, shrunk)
    assert found["coverage_68/core"] < 0.4
    assert found["coverage_68/lines[snr 10-30]"] < 0.1
    assert found["coverage_68/lines[snr <1]"] == pytest.approx(right["coverage_68/lines[snr <1]"], abs=0.02)
    assert found["coverage_68/continuum"] == pytest.approx(right["coverage_68/continuum"], abs=0.02)


def test_errors_of_the_target_count(held_out, right):
    sigma = np.median(held_out.prism_error, axis=1, keepdims=True)
    with_noise = replace(
        held_out,
        target_error=np.broadcast_to(sigma, held_out.target_flux.shape).astype(np.float32),
        line_error=np.full(held_out.line_flux.shape, 1e4, np.float32),
    )
    found = figures(with_noise, noisy(held_out))
    for part in REGIONS:
        # twice the variance is allowed for
        assert found[f"coverage_68/{part}"] == pytest.approx(
            2 * norm.cdf(np.sqrt(2) * norm.ppf(0.84)) - 1, abs=0.02
        )
    assert found["coverage_95/lines"] > 0.99


def test_splits_are_there_and_add_up(held_out):
    estimates = PIXELS.summarise(columns(held_out), measure_pixels(held_out, noisy(held_out)))
    for kind in ("wave", "z", "continuum snr"):
        parts = [e.n for name, e in estimates.items() if name.startswith(f"coverage_68/core[{kind}")]
        assert len(parts) > 1
        assert sum(parts) == estimates["coverage_68/core"].n
    lines = LINES.summarise(columns(held_out), measure_lines(held_out, noisy(held_out)))
    names = [f"pit_ks/lines[snr {part}]" for part in ("<1", "1-3", "3-5", "5-10", "10-30", ">30")]
    assert sum(lines[name].n for name in names) == lines["pit_ks/lines"].n


def test_regions_lie_where_lines_are(held_out):
    region = pixel_regions(held_out)
    index = load_lines().index("[OIII]_5008")
    strong = np.flatnonzero((held_out.line_snr[:, index] > 3) & held_out.line_known[:, index])
    wavelength = held_out.grid.wavelength
    for row in strong[:10]:
        centre = load_lines().wavelength[index] * (1 + held_out.redshift[row])
        fwhm = float(reference_instrument(held_out.grid).fwhm(centre))
        at = region[row, np.argmin(np.abs(wavelength - centre))]
        beside = region[row, np.argmin(np.abs(wavelength - centre - 2.0 * fwhm))]
        assert REGIONS[at] == "core"
        assert REGIONS[beside] in ("wing", "core")
        assert not (region[row, np.abs(wavelength - centre) < 5 * fwhm] == REGIONS.index("continuum")).any()
    unknown = pixel_regions(replace(held_out, redshift=np.full(len(held_out), np.nan)))
    assert (unknown == NO_REGION).all()


def test_nothing_to_measure_is_no_error(held_out):
    one = held_out.rows(slice(0, 1))
    none = Reconstruction(flux=np.full((1, held_out.grid.size), np.nan))
    cases = ((one, none), (empty(one), noisy(one)), (one, replace(noisy(one), error=None)))
    for galaxy, made in cases:
        for topic in (PIXELS, LINES):
            measured = topic.measure(galaxy, made)
            assert all(len(array) == 1 and array.dtype == np.float32 for array in measured.values())
            topic.summarise(columns(galaxy), measured)
    assert figures(one, none) == {}
    assert figures(empty(one), noisy(one)) == {}


def test_figure_of_calibration(held_out):
    made = {
        "sr1": noisy(held_out, 0.5),
        "sr2": noisy(held_out),
        "cubic": Reconstruction(held_out.target_flux),
    }
    pixels = {name: measure_pixels(held_out, m) for name, m in made.items()}
    lines = {name: measure_lines(held_out, m) for name, m in made.items()}
    figure = draw_calibration(pixels, lines)
    above = figure.axes[0]
    # the diagonal and two methods: the one without errors is left out
    assert len(above.lines) == 3
    assert [line.get_label() for line in above.lines[1:]] == ["SR1", "SR2"]
    assert draw_calibration({}, {}).axes
