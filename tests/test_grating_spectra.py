"""Real gratings as truth: a file in their layout made by the simulator, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.instrument import FWHM_PER_SIGMA, PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import quadratic_form
from data_pipeline.lines import load_lines
from data_pipeline.lines.profile import render_lines
from data_pipeline.pixel_grid import UNIFIED_GRID, pixel_bounds
from data_pipeline.resampling import resampler
from data_pipeline.simulation import Nuisances, Population, SimulationConfig, simulate_batch
from kspecsr import evaluate
from kspecsr.evaluation.grating_spectra import GratingHeldOut, GratingSpectra
from kspecsr.evaluation.line_table import line_table
from kspecsr.evaluation.sources import SimulatedHeldOut
from kspecsr.measures.estimate import summarise
from kspecsr.measures.line_by_line import SUMS, blocks, measure, shared_pull_scatter

PIXELS = np.linspace(1.0, 5.0, 2500)
SIZE, GAP = 12, slice(1200, 1260)
CONFIG = SimulationConfig(
    Population(name="test", continua="library", noise_fraction=0.0, quiescent_fraction=0.0),
    Nuisances(prism_resolution_scatter=0.0, zero_point_shift=0.0),
)


@pytest.fixture(scope="module")
def galaxies():
    return simulate_batch(np.arange(SIZE), 5, CONFIG, gratings=False)


def write(folder, galaxies, noise, smooth=True):
    """The truth on 16 Angstrom pixels with noise that neighbours share, and a gap that is interpolated."""
    rebin = resampler(pixel_bounds(UNIFIED_GRID.wavelength), pixel_bounds(PIXELS), 0.1)
    zero = np.zeros(UNIFIED_GRID.size)
    flux = np.array([rebin.resample(one, zero, zero > 0)[0] for one in galaxies.noise_free])
    white = np.random.default_rng(1).standard_normal((SIZE, PIXELS.size + 1))
    mixed = (white[:, 1:] + 0.4 * white[:, :-1]) / np.hypot(1.0, 0.4) if smooth else white[:, 1:]
    flux = flux + noise * mixed
    error = noise * (1.0 + 0.1 * np.random.default_rng(2).random(flux.shape))
    for values in (flux, error):
        ends = values[:, [GAP.start - 1, GAP.stop]]
        share = (np.arange(GAP.start, GAP.stop) - GAP.start + 1) / (GAP.stop - GAP.start + 1)
        values[:, GAP] = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * share
    columns = [
        fits.Column("UNIQUE_ID", "32A", array=[f"goods-s-deephst_{k}" for k in range(SIZE)]),
        fits.Column("Z", "D", array=galaxies.redshift),
        *(
            fits.Column(name, f"{PIXELS.size}E", unit="erg s-1 cm-2 Angstrom-1", array=values)
            for name, values in (("FLUX", flux), ("FLUX_ERR", error))
        ),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="GRATINGS")
    path = folder / "jades_dr4_gratings_12.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(PIXELS, name="WAVELENGTH"), table]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


@pytest.fixture(scope="module")
def clean(galaxies, tmp_path_factory):
    """Gratings with a hundredth of the prism's noise."""
    return write(tmp_path_factory.mktemp("clean"), galaxies, 1e-23)


def test_pixels_interpolated_over_a_gap_are_masked_and_no_others(galaxies, tmp_path):
    spectra = GratingSpectra.read(write(tmp_path, galaxies, 2e-21))
    assert spectra.mask[:, GAP].all()
    assert spectra.mask.sum() <= SIZE * (GAP.stop - GAP.start + 4)


def test_the_prism_sees_what_it_would_see_of_the_galaxy_itself(galaxies, clean):
    held_out = GratingHeldOut(clean.parent, UNIFIED_GRID).chunk(0)
    good = ~held_out.prism_mask
    pull = (held_out.prism_flux - 1e20 * galaxies.noise_free_prism)[good] / held_out.prism_error[good]
    assert good.mean() > 0.6
    # released pixels scatter by sqrt(2/3) of the quoted error; a wrong width shows at lines of S/N 100
    assert np.std(pull[np.abs(pull) < 5]) == pytest.approx(0.82, abs=0.05)
    assert np.mean(np.abs(pull) > 5) < 0.005


def test_lines_are_judged_by_their_true_fluxes(galaxies, clean):
    held_out = GratingHeldOut(clean, UNIFIED_GRID).chunk(0)
    k = load_lines().index("[OIII]_5008")
    seen = held_out.line_known[:, k] & (galaxies.line_flux[:, k] > 3e-18) & (galaxies.velocity_sigma < 200)
    seen &= galaxies.broad_velocity_sigma == 0
    assert seen.sum() > 3
    ratio = held_out.line_flux[seen, k] / (1e20 * galaxies.line_flux[seen, k])
    np.testing.assert_allclose(ratio, 1.0, atol=0.05)


def test_the_gratings_noise_counts_as_the_error_that_it_gives_to_lines(galaxies, tmp_path):
    """Against many draws of that noise, sent through the operator and a matched filter."""
    source = GratingHeldOut(write(tmp_path, galaxies, 2e-21), UNIFIED_GRID)
    rng, noise = np.random.default_rng(3), 2e-21
    white = rng.standard_normal((4000, PIXELS.size + 1))
    drawn = noise * (white[:, 1:] + 0.4 * white[:, :-1]) / np.hypot(1.0, 0.4)
    pixel = [200, 400, 600]
    prism = load_instrument(PRISM)
    zero = np.zeros(3)
    line = render_lines(prism, prism.wavelength[pixel], np.ones(3), zero, row=np.arange(3))
    scatter = np.std(source._operator.apply(drawn) @ line.T, axis=0)
    expected = source._carried_error(np.arange(1))[0, pixel] * np.sqrt(quadratic_form(line))
    np.testing.assert_allclose(expected, scatter, rtol=0.12)


def test_wider_pixels_make_lines_wider(clean):
    spectra = GratingSpectra.read(clean)
    sharp = load_instrument("nirspec-g140m")
    added = (16.006e-4**2 - float(sharp.pixel_width(1.2)) ** 2) / 12.0
    expected = np.sqrt(float(sharp.sigma(1.2)) ** 2 + added) * FWHM_PER_SIGMA
    assert float(spectra.instrument.fwhm(1.2)) == pytest.approx(expected, rel=1e-3)


def test_errors_of_reading_name_file_and_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"_gratings_\*.fits"):
        GratingSpectra.read(tmp_path)
    path = tmp_path / "x_gratings_1.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(PIXELS, name="WAVELENGTH")]).writeto(path)
    with pytest.raises(ValueError, match=r"x_gratings_1\.fits.*expected HDU WAVELENGTH"):
        GratingSpectra.read(path)


def test_without_the_folder_the_command_says_so_and_does_nothing(tmp_path, capsys):
    given = ["--data", "gratings", "--output", str(tmp_path / "out")]
    assert evaluate.main([*given, "--gratings", str(tmp_path / "none")]) == 0
    assert "skipped" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert evaluate.main(given) == 2


def test_sums_of_lines_and_pulls_are_those_of_the_sums():
    names, rows = load_lines().names, 200
    rng = np.random.default_rng(4)
    shape = (rows, len(names))
    columns = {
        "galaxy": np.arange(rows),
        "line_flux": np.full(shape, 100.0),
        "line_error": np.zeros(shape),
        "line_known": np.ones(shape, bool),
        "line_snr": np.full(shape, 10.0),
        "continuum_snr": np.ones(rows),
    }
    # the two halves are told apart badly, their sum well
    shift = rng.normal(0, 40, rows)
    flux = np.full(shape, 90.0)
    first, second = (names.index(name) for name in SUMS["[OII]"])
    flux[:, first] += shift
    flux[:, second] -= shift
    measured = {"line_flux": flux, "line_flux_error": np.full(shape, 10.0)}
    found = summarise(blocks(columns, measured), columns["galaxy"])
    assert found["line_recovery/[OII]"].value == pytest.approx(0.9)
    assert found["line_scatter/[OII]"].value == pytest.approx(0.0, abs=1e-12)
    assert found["line_pull/[OII]"].value == pytest.approx(-20 / np.hypot(10, 10))
    assert found["line_pull_scatter/[OII]_3727"].value > 3
    assert found["line_pull_shared/[OII]"].value == 1.0


def test_pulls_against_a_reference_that_shares_its_noise():
    """Best estimate of ten pixels beside that of two of them: variances 1/10 and 1/2."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((20000, 10))
    difference = noise[:, :2].mean(axis=1) - noise.mean(axis=1)
    error, reference = np.full(20000, 0.5**0.5), np.full(20000, 0.1**0.5)
    scatter = np.std(difference / np.hypot(error, reference))
    assert shared_pull_scatter(error, reference) == pytest.approx(scatter, rel=0.03)


def test_lines_are_split_by_their_contrast_with_the_continuum():
    shape = (40, len(load_lines().names))
    columns = {"galaxy": np.arange(40), "continuum_snr": np.repeat([20.0, 5.0], 20)}
    columns |= {"line_flux": np.full(shape, 1.0), "line_error": np.zeros(shape)}
    columns |= {"line_known": np.ones(shape, bool), "line_snr": np.full(shape, 7.0)}
    flux = np.where(np.arange(40)[:, None] < 20, 0.5, 0.9) * np.ones(shape)
    measured = {"line_flux": flux, "line_flux_error": np.ones(shape)}
    measured["balmer_jump"] = np.repeat([1.9, 0.9], 20)
    found = summarise(blocks(columns, measured), np.arange(40))
    assert found["line_recovery/Hbeta[jump 1.7-2.2]"].value == pytest.approx(0.5)
    assert found["line_recovery/[OII][contrast 0-1]"].value == pytest.approx(0.5)
    assert found["line_recovery/[OII][contrast 2-4]"].value == pytest.approx(0.9)
    text = line_table({"sr2": found})
    assert "[OII][contrast 0-1]" in text and "Paalpha" in text


def test_the_balmer_jump_is_that_of_the_true_continuum():
    held_out = SimulatedHeldOut(UNIFIED_GRID, seed=4, chunk_size=8).chunk(0)
    rest = UNIFIED_GRID.wavelength / (1.0 + held_out.redshift[:, None])
    flat = np.where(rest < 0.37, 0.5, 1.0) / rest**2  # flat in f_nu, with a jump
    known = np.arange(len(held_out)) > 0
    jump = measure(replace(held_out, target_continuum=flat, continuum_known=known))["balmer_jump"]
    seen = (rest[:, 0] < 0.34) & (rest[:, -1] > 0.43)
    assert np.isnan(jump[0]) and (seen & known).sum() > 1
    np.testing.assert_allclose(jump[seen & known], 2.0, rtol=0.01)
