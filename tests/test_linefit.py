"""The direct line fit against truth, SciPy and its own promises."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable
from scipy.optimize import lsq_linear, nnls

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import CORRELATED_NOISE, quadratic_form
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import tied_lines
from data_pipeline.lines.least_squares import non_negative_solution
from data_pipeline.lines.profile import render_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.writers.spectrum_fits import write_spectrum
from kspecsr.configuration import FeedConfig
from kspecsr.feeds.simulated import validation_examples
from kspecsr.linefit import main
from kspecsr.methods.direct_fit import DirectFitConfig, _continuum_columns, _continuum_normal, fit_prism_lines
from kspecsr.results.prism_input import degraded_to_prism, prism_chi_square

ROOT = Path(__file__).resolve().parents[1]
LINES = load_lines()
INSTRUMENT = load_instrument(PRISM)
PIXELS = INSTRUMENT.wavelength
GRID = UnifiedGrid()
TRUE = {"Hbeta": 300.0, "[OIII]_5008": 900.0, "[OIII]_4960": 900.0 / 2.9842, "Halpha": 800.0}
EXACT = DirectFitConfig(systematic=0.0)


def galaxy(z, fluxes=TRUE, continuum=None, velocity=50.0):
    """Noise-free prism spectrum with these lines on a sloping continuum [1e-20 erg/s/cm2/A]."""
    centre = np.array([LINES.wavelength[LINES.index(name)] for name in fluxes]) * (1 + z)
    flux = np.array(list(fluxes.values()))
    lines = render_lines(INSTRUMENT, centre, flux, np.full(flux.size, velocity), rows=1)[0]
    return lines + (1.0 + 0.3 * (PIXELS - 3.0) if continuum is None else continuum)


def fit_one(flux, z, error=0.02, mask=None, config=DirectFitConfig()):  # noqa: B008
    flux = np.atleast_2d(flux)
    mask = np.zeros(flux.shape, bool) if mask is None else np.atleast_2d(mask)
    return fit_prism_lines(flux, np.full(flux.shape, error), mask, np.full(len(flux), z), config)


def correlated_noise(rng, rows):
    """White on detector pixels, interpolated at 0.6 of them: written here a second time."""
    place = rng.random((rows, 1)) + 0.6 * np.arange(PIXELS.size)
    left = place.astype(int)
    white = rng.normal(size=(rows, left.max() + 2))
    row = np.arange(rows)[:, None]
    return white[row, left] * (1 - place + left) + white[row, left + 1] * (place - left)


@pytest.fixture(scope="module")
def survey():
    feed = FeedConfig(
        population="survey",
        resolution_scatter=0.0,
        zero_point_shift=0.0,
        error_scatter=0.0,
        gap_fraction=0.0,
        truncated_fraction=0.0,
        coarse_fraction=0.0,
    )
    return validation_examples(200, 4, feed, GRID)


def fit_survey(survey, config=EXACT, rows=slice(None)):
    names = ("prism_flux", "prism_error", "prism_mask", "true_redshift")
    return fit_prism_lines(*(survey[name][rows] for name in names), config)


@pytest.mark.parametrize("z", [1.5, 3.0, 6.0])
def test_separate_lines_without_noise_are_recovered(z):
    flux = galaxy(z)
    fit = fit_one(flux, z)
    for name, value in TRUE.items():
        if z > 2 or name == "Halpha":  # at low redshift Hbeta and [OIII] overlap
            assert fit.line_flux[0, LINES.index(name)] == pytest.approx(value, rel=0.02), name
    assert np.abs(fit.model[0] - flux).max() < 0.02 * flux.max()
    assert fit.continuum[0, 300] == pytest.approx(1.0 + 0.3 * (PIXELS[300] - 3.0), rel=0.01)


def test_pulls_of_simulated_galaxies_have_unit_scatter(survey):
    fit = fit_survey(survey)
    pull = (fit.line_flux - survey["line_flux"]) / fit.line_flux_error
    bright = fit.line_in_range & survey["line_known"]
    bright &= survey["line_flux"] > 5 * np.nan_to_num(fit.line_flux_error, nan=np.inf)
    pull = pull[bright]
    assert pull.size > 300
    assert abs(np.median(pull)) < 0.35
    # beyond about S/N 30 what is wrong with the model, not the noise, decides
    assert 1.4826 * np.median(np.abs(pull - np.median(pull))) == pytest.approx(1.0, abs=0.2)


def test_errors_are_the_scatter_of_repeated_correlated_noise():
    rng = np.random.default_rng(1)
    z = 5.5
    fit = fit_one(galaxy(z) + correlated_noise(rng, 400), z, 1.0, config=EXACT)
    k = [LINES.index(name) for name in ("Hbeta", "[OIII]_5008", "Halpha")]
    assert fit.line_flux[:, k].std(axis=0) == pytest.approx(fit.line_flux_error[0, k], rel=0.12)
    spread = fit.continuum.std(axis=0)[50:-50]
    assert np.median(spread / fit.continuum_error[0, 50:-50]) == pytest.approx(1.0, abs=0.1)
    white = fit_one(galaxy(z), z, 1.0, config=replace(EXACT, correlated_noise=False))
    ratio = fit.line_flux_error[0, k] / white.line_flux_error[0, k]
    assert ratio[:2] == pytest.approx(np.full(2, CORRELATED_NOISE), rel=0.05)
    assert 1.0 < ratio[2] < CORRELATED_NOISE  # what tells Halpha from [NII] is finer, and so is less noisy


def test_fluxes_are_not_negative_and_those_of_scipy_on_the_whole_problem(survey):
    config = replace(DirectFitConfig(), systematic=0.0)
    rows = slice(0, 12)
    fit = fit_survey(survey, config, rows)
    assert np.nanmin(fit.line_flux) >= 0.0
    assert (fit.line_flux == 0).any()
    for row in range(12):
        expected, model = whole_problem(survey, row, config)
        if expected is None:
            continue
        good = ~survey["prism_mask"][row]
        error = survey["prism_error"][row]
        # profiles are rendered independently: pixel widths between centres differ a little
        assert np.abs((fit.model[row] - model) / error)[good].max() < 5e-3
        measured = fit.line_in_range[row]
        difference = (fit.line_flux[row] - expected) / fit.line_flux_error[row]
        assert np.abs(difference[measured]).max() < 5e-3


def whole_problem(survey, row, config):
    """Fluxes (K,) and model of lsq_linear: bounded lines, free continuum, ridge and smoothness as rows."""
    z = float(survey["true_redshift"][row])
    if np.isnan(z):
        return None, None
    weight = np.where(survey["prism_mask"][row], 0.0, 1.0 / survey["prism_error"][row].astype(float))
    profile = np.zeros((len(LINES), PIXELS.size))
    edge_low, edge_high = INSTRUMENT.bounds[0, 0], INSTRUMENT.bounds[1, -1]
    for k, wavelength in enumerate(LINES.wavelength * (1 + z)):
        if edge_low <= wavelength <= edge_high:
            profile[k] = render_lines(
                INSTRUMENT, [wavelength], [1.0], np.array([config.velocity_sigma]), rows=1
            )
    tie = tied_lines(LINES).matrix(len(LINES))
    lines = (tie.T @ profile).T
    continuum = _continuum_columns(np.array([z]), config, INSTRUMENT)[0].T
    norm = np.linalg.norm(lines * weight[:, None], axis=0)
    lines = lines / np.where(norm > 0, norm, 1.0)
    # what the continuum's normal equations have beyond the data, as rows: its square root
    whitened = (continuum * weight[:, None]).T[None]
    extra = _continuum_normal(whitened, config.knots, config.smoothness)[0] - whitened[0] @ whitened[0].T
    value, vector = np.linalg.eigh(extra)
    root = np.sqrt(np.maximum(value, 0.0))[:, None] * vector.T
    free = lines.shape[1]
    top = np.hstack([lines, continuum]) * weight[:, None]
    ridge = np.hstack([np.sqrt(config.ridge) * np.eye(free), np.zeros((free, continuum.shape[1]))])
    bend = np.hstack([np.zeros((root.shape[0], free)), root])
    matrix = np.vstack([top, ridge, bend])
    data = np.concatenate([weight * survey["prism_flux"][row], np.zeros(free + root.shape[0])])
    low = np.concatenate([np.zeros(free), np.full(continuum.shape[1], -np.inf)])
    solution = lsq_linear(matrix, data, (low, np.inf), method="bvls", tol=1e-14).x
    fluxes = tie @ np.where(norm > 0, solution[:free] / np.where(norm > 0, norm, 1.0), 0.0)
    return fluxes, np.hstack([lines, continuum]) @ solution


def test_non_negative_solution_is_that_of_scipy():
    rng = np.random.default_rng(5)
    for n, power in ((3, 0.0), (20, 2.0), (60, 4.0)):
        A = rng.normal(size=(25, 2 * n, n)) * 10.0 ** -np.linspace(0, power, n)
        b = rng.normal(size=(25, 2 * n))
        normal = A.transpose(0, 2, 1) @ A
        x = non_negative_solution(normal, np.einsum("bmn,bm->bn", A, b))
        expected = np.array([nnls(one, data)[0] for one, data in zip(A, b, strict=True)])
        assert np.all(x >= 0)
        size = np.maximum(np.abs(expected).max(axis=1, keepdims=True), 1e-3)
        assert np.abs((x - expected) / size).max() < 1e-6


def test_doublets_keep_their_ratios(survey):
    fit = fit_survey(survey, rows=slice(0, 64))
    for k, partner in enumerate(LINES.partner):
        if not partner:
            continue
        j = LINES.index(partner)
        both = fit.line_in_range[:, k] & fit.line_in_range[:, j]
        for array in (fit.line_flux, fit.line_flux_error):
            assert array[both, k] == pytest.approx(LINES.ratio[k] * array[both, j], rel=1e-9)


def test_a_line_in_a_gap_is_not_measured():
    z = 5.0
    centre = np.searchsorted(PIXELS, LINES.wavelength[LINES.index("Halpha")] * (1 + z))
    mask = np.zeros(PIXELS.size, bool)
    mask[centre - 8 : centre + 8] = True
    flux = galaxy(z)
    flux[mask] = np.nan
    fit = fit_one(flux, z, mask=mask)
    k = LINES.index("Halpha")
    assert not fit.line_in_range[0, k]
    assert np.isnan([fit.line_flux[0, k], fit.line_flux_error[0, k]]).all()
    assert fit.line_flux[0, LINES.index("Hbeta")] == pytest.approx(300.0, rel=0.02)
    # the continuum goes on through the gap, but the sharp spectrum leaves it out
    assert fit.continuum[0, centre] == pytest.approx(1.0 + 0.3 * (PIXELS[centre] - 3.0), rel=0.05)
    sharp = fit.on_grid(GRID)[0][0]
    inside = (GRID.wavelength > PIXELS[centre - 7]) & (GRID.wavelength < PIXELS[centre + 6])
    assert np.isnan(sharp[inside]).all() and np.isfinite(sharp[~inside]).mean() > 0.99
    # Lyman alpha lies bluewards of the prism at z = 3
    assert not fit_one(galaxy(3.0), 3.0).line_in_range[0, LINES.index("Lya")]


def test_the_unit_of_the_flux_does_not_matter(survey):
    fit = fit_survey(survey, DirectFitConfig(), slice(0, 40))
    names = ("prism_flux", "prism_error")
    scaled = {**survey, **{name: survey[name].astype(float) * 1e-20 for name in names}}
    other = fit_survey(scaled, DirectFitConfig(), slice(0, 40))
    for name in ("line_flux", "line_flux_error", "continuum", "continuum_error", "model"):
        a, b = getattr(fit, name) * 1e-20, getattr(other, name)
        assert np.array_equal(np.isnan(a), np.isnan(b))
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        assert np.all(np.abs(a - b) <= 1e-6 * np.abs(a).max(axis=1, keepdims=True)), name
    assert other.chi_square == pytest.approx(fit.chi_square, rel=1e-7, nan_ok=True)
    assert np.array_equal(fit.line_in_range, other.line_in_range)


def test_without_redshift_or_data_nothing_is_fitted():
    flux = np.stack([galaxy(3.0)] * 4)
    mask = np.zeros(flux.shape, bool)
    mask[2] = True
    z = np.array([3.0, np.nan, 3.0, np.inf])
    fit = fit_prism_lines(flux, np.full(flux.shape, 0.1), mask, z)
    assert fit.line_in_range[0].any() and np.isfinite(fit.chi_square[0])
    assert not fit.line_in_range[1:].any()
    for array in (fit.line_flux, fit.line_flux_error, fit.continuum, fit.model, *fit.on_grid(GRID)):
        assert np.isnan(array[1:]).all()
    assert np.isnan(fit.chi_square[1:]).all()
    alone = fit_one(flux[0], 3.0, 0.1)
    assert alone.line_flux[0] == pytest.approx(fit.line_flux[0], rel=1e-9, nan_ok=True)
    nothing = fit_prism_lines(flux[:0], flux[:0], mask[:0], z[:0])
    assert nothing.line_flux.shape == (0, len(LINES)) and nothing.on_grid(GRID)[0].shape == (0, GRID.size)


def test_chi_square_is_that_of_the_consistency_check(survey):
    fit = fit_survey(survey, rows=slice(0, 8))
    for row in range(8):
        given = (survey[name][row] for name in ("prism_flux", "prism_error", "prism_mask"))
        if np.isfinite(fit.redshift[row]):
            expected = prism_chi_square(*given, fit.model[row])
            assert fit.chi_square[row] == pytest.approx(expected, rel=1e-6)


def test_the_sharp_spectrum_holds_the_flux_of_the_lines_and_degrades_to_the_prism():
    z = 4.0
    flux = galaxy(z)
    fit = fit_one(flux, z)
    width = np.diff(GRID.bounds, axis=0)[0] * 1e4
    on_grid = fit.line_in_range[0] & (LINES.wavelength * (1 + z) > 0.72)
    for velocity in (0.0, 50.0, 400.0):
        sharp, error, continuum = (array[0] for array in fit.on_grid(GRID, velocity))
        assert np.nansum((sharp - continuum) * width) == pytest.approx(
            fit.line_flux[0, on_grid].sum(), rel=1e-4
        )
        assert np.all(error[np.isfinite(error)] > 0)
    sharp = fit.on_grid(GRID)[0][0]
    back = degraded_to_prism(np.where(np.isnan(sharp), 0.0, sharp), GRID)
    seen = np.isfinite(back) & (PIXELS > 0.8) & (PIXELS < 5.1)
    assert np.abs(back - flux)[seen].max() < 0.02 * flux.max()
    k = int(np.nanargmax(sharp))
    assert GRID.wavelength[k] == pytest.approx(0.500824 * (1 + z), rel=1e-3)


def test_the_error_of_a_blend_is_that_of_its_sum():
    z = 8.0  # HeI 3890 and H8 3890 coincide: each may be anything, their sum is known
    fit = fit_one(galaxy(z, {"H8_3890": 500.0}), z, 0.2, config=EXACT)
    k = [LINES.index("HeI_3890"), LINES.index("H8_3890")]
    block = fit.line_covariance[0][np.ix_(k, k)]
    total = np.sqrt(block.sum())
    assert fit.line_flux[0, k].sum() == pytest.approx(500.0, rel=0.02)
    assert np.all(fit.line_flux_error[0, k] > 5 * total)
    assert np.all(fit.line_flux_error[0, k] < 500.0)
    sharp, error, continuum = (array[0] for array in fit.on_grid(GRID))
    peak = np.argmin(np.abs(GRID.wavelength - 0.38902 * (1 + z)))
    relative = error[peak] / (sharp[peak] - continuum[peak])
    assert relative == pytest.approx(total / 500.0, rel=0.3)


def test_options_of_the_line_spread_function_and_of_the_zero_point():
    z, k = 5.0, LINES.index("Halpha")
    flux = galaxy(z, {"Halpha": 800.0})
    chi = {
        scale: fit_one(flux, z, 0.2, config=DirectFitConfig(resolution_scale=scale)) for scale in (1.1, 1.22)
    }
    assert chi[1.1].chi_square[0] > 10 * chi[1.22].chi_square[0]
    assert abs(chi[1.1].line_flux[0, k] - 800.0) > abs(chi[1.22].line_flux[0, k] - 800.0)
    centre = LINES.wavelength[k] * (1 + z)
    step = np.interp(centre, PIXELS, np.diff(INSTRUMENT.bounds, axis=0)[0])
    moved = galaxy((centre + 0.3 * step) / LINES.wavelength[k] - 1, {"Halpha": 800.0})
    away, back = (fit_one(moved, z, 0.2, config=DirectFitConfig(zero_point_shift=s)) for s in (0.0, 0.3))
    assert back.chi_square[0] < 0.1 * away.chi_square[0]
    broad = galaxy(z, {"Halpha": 800.0}, velocity=800.0)
    narrow, wide = (fit_one(broad, z, 0.2, config=DirectFitConfig(velocity_sigma=v)) for v in (50.0, 800.0))
    assert wide.chi_square[0] < 0.1 * narrow.chi_square[0]


def test_covariance_is_that_of_the_noise_model():
    """One line alone on pixels far from all others: the error is that of its matched filter."""
    z = 1.0
    flux = galaxy(z, {"Paalpha": 500.0})
    profile = galaxy(z, {"Paalpha": 1.0}, continuum=0.0)
    fit = fit_one(flux, z, 0.5, config=EXACT)
    filtered = np.sqrt(quadratic_form(profile)) / np.sum(profile**2) * 0.5
    error = fit.line_flux_error[0, LINES.index("Paalpha")]
    assert 1.0 < error / filtered < 1.15  # the continuum is fitted as well


def test_bad_arrays_and_options_are_refused():
    flux = galaxy(3.0)[None]
    good = np.zeros(flux.shape, bool)
    with pytest.raises(ValueError, match=r"expected flux, error and mask of one shape \(B, 706\).*\(706,\)"):
        fit_prism_lines(flux[0], flux[0], good[0], np.array([3.0]))
    with pytest.raises(ValueError, match="one redshift for each of 1 spectra, got shape"):
        fit_prism_lines(flux, flux, good, np.array([3.0, 4.0]))
    with pytest.raises(ValueError, match="redshifts above -1, got -2"):
        fit_prism_lines(flux, flux, good, np.array([-2.0]))
    with pytest.raises(ValueError, match="velocity_sigma of 0 km/s or more, got -1"):
        fit_one(flux, 3.0).on_grid(GRID, -1.0)
    for name, value in (("knots", 2), ("ridge", 0.0), ("systematic", -0.1), ("resolution_scale", 0.0)):
        with pytest.raises(ValueError, match=f"direct fit, {name}: expected"):
            DirectFitConfig(**{name: value})


@pytest.fixture(scope="module")
def prism_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("linefit") / "galaxy.fits"
    flux = galaxy(3.235) * 1e-20
    spectrum = ObservedSpectrum(
        PIXELS, flux, np.full(flux.size, 5e-22), np.zeros(flux.size, bool), SpectrumMeta(disperser="PRISM")
    )
    write_spectrum(path, spectrum, {})
    return path


def test_command_line_prints_and_writes_the_lines(prism_file, tmp_path, capsys):
    assert main([str(prism_file), "--redshift", "3.235", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    row = next(line.split() for line in text.splitlines() if line.startswith("Halpha"))
    assert float(row[3]) == pytest.approx(800.0, rel=0.02)
    assert float(row[5]) == pytest.approx(float(row[3]) / float(row[4]), rel=0.01)
    assert "z = 3.235" in text
    assert os.listdir(tmp_path) == ["galaxy_linefit.ecsv"]
    table = QTable.read(tmp_path / "galaxy_linefit.ecsv")
    assert table["FLUX"][LINES.index("Halpha")].to_value("1e-20 erg / (s cm2)") == pytest.approx(
        800, rel=0.02
    )
    assert np.isnan(table["FLUX"][LINES.index("Lya")]) and not table["IN_RANGE"][LINES.index("Lya")]
    assert table.meta["REDSHIFT"] == 3.235 and table.meta["OPTIONS"]["knots"] == 30


def test_command_line_lists_bad_files_and_goes_on(prism_file, tmp_path, capsys):
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"no FITS file at all")
    status = main([str(broken), str(tmp_path / "absent.fits"), str(prism_file), "--redshift", "3.235"])
    output = capsys.readouterr()
    assert status == 1
    assert "2 failed:" in output.err and "broken.fits" in output.err and "absent.fits" in output.err
    assert "Halpha" in output.out


def test_command_line_takes_redshifts_from_a_table(prism_file, tmp_path, capsys):
    table = tmp_path / "z.csv"
    table.write_text("file,z\ngalaxy.fits,3.235\n")
    assert main([str(prism_file), "--redshift", f"{table}:z"]) == 0
    assert "z = 3.235" in capsys.readouterr().out
    table.write_text("file,z\nanother.fits,3.235\n")
    assert main([str(prism_file), "--redshift", f"{table}:z"]) == 1
    assert "--redshift has none for this spectrum" in capsys.readouterr().err


def test_command_line_refuses_what_it_cannot_do(prism_file, capsys):
    for arguments in ([str(prism_file)], ["--redshift", "3"], []):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
    assert "--redshift" in capsys.readouterr().err
    assert main([str(prism_file), "--redshift", "-3"]) == 1
    assert "expected a redshift from 0 to 30" in capsys.readouterr().err
    assert main([str(prism_file), "--redshift", "3", "--knots", "1"]) == 1
    assert "direct fit, knots: expected 4 or more, got 1" in capsys.readouterr().err


def test_the_fit_needs_no_keras():
    code = "import sys, kspecsr.linefit; print(bool({'keras', 'tensorflow', 'astropy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
