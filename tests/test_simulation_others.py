"""What is no galaxy, two sources in a slit, and spectra in trouble: spectra, labels, statistics."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.__main__ import main
from benchmarks.open_sky_picture import chosen_examples, signal_table, signal_to_noise
from data_pipeline.lines import load_lines
from data_pipeline.simulation import (
    KINDS,
    POPULATIONS,
    TROUBLES,
    WITHOUT_REDSHIFT,
    Nuisances,
    Population,
    SimulationConfig,
    simulate_batch,
    trouble,
)
from data_pipeline.simulation.catalogue import catalogue_rows
from data_pipeline.simulation.config import share_of
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.dwarfs import dwarf_spectrum, load_dwarfs, read_dwarfs, star_spectrum
from data_pipeline.simulation.truth import TruthReader, write_truth_chunk, write_truth_index

CLEAN = Nuisances(noise_scale=0.0, zero_point_shift=0.0, bad_pixel_fraction=0.0, edge_pixels=(0, 0))
X = np.linspace(0.6, 5.3, 3000)


def only(**shares):
    """The sky with nothing but these kinds, or galaxies in these troubles."""
    kinds = {share_of(name): 0.0 for name in KINDS[1:]}
    return replace(POPULATIONS["sky"], **{**kinds, "reobserved_fraction": 0.0, **shares})


def simulated(n, nuisances=CLEAN, **shares):
    return simulate_batch(np.arange(n), 3, SimulationConfig(only(**shares), nuisances), gratings=False)


# ---- the table of ultracool dwarfs


def write_models(path, columns=("TEFF", "LOGG", "METALLICITY", "LOGKZZ", "FLUX")):
    """Two temperatures of two atmospheres, not in order; flat at 1, 2, 3 and 4 % below a maximum of 5."""
    flux = np.outer([3.0, 1.0, 4.0, 2.0], np.ones(60)) / 20.0
    flux[:, 30] = 5.0
    values = ([900.0, 500.0, 900.0, 500.0], [4.0, 4.0, 5.0, 5.0], [0.0] * 4, [5.0] * 4, flux)
    made = [
        fits.Column(name, "60E" if name == "FLUX" else "E", array=np.array(value))
        for name, value in zip(columns, values, strict=False)
    ]
    head = fits.PrimaryHDU()
    head.header["LICENSE"] = "as you like"
    wave = fits.ImageHDU(np.linspace(0.5, 6.0, 60), name="WAVELENGTH")
    fits.HDUList([head, wave, fits.BinTableHDU.from_columns(made, name="MODELS")]).writeto(path)


def test_the_command_orders_models_by_temperature_and_atmosphere(tmp_path, capsys):
    write_models(tmp_path / "models.fits")
    output = tmp_path / "table.npz"
    assert main(["ultracool-dwarfs", "--models", str(tmp_path / "models.fits"), "--output", str(output)]) == 0
    assert "2 temperatures of 2 atmospheres, 60 wavelengths" in capsys.readouterr().out
    table = read_dwarfs(output)
    assert table.temperature.tolist() == [500.0, 900.0]
    assert table.atmosphere[:, 0].tolist() == [4.0, 5.0]
    assert 10.0 ** table.log_flux[..., 0] * 100 == pytest.approx(np.array([[1, 2], [3, 4]]), rel=0.005)
    assert table.header["licence"] == "as you like"


def test_a_file_without_models_is_refused_by_name(tmp_path, capsys):
    path = tmp_path / "models.fits"
    write_models(path, ("TEFF", "LOGG", "METALLICITY", "LOGKZZ"))
    assert main(["ultracool-dwarfs", "--models", str(path), "--output", str(tmp_path / "t.npz")]) == 1
    assert f"{path}: " in (error := capsys.readouterr().err) and "expected extensions WAVELENGTH" in error
    with pytest.raises(ValueError, match=r"models\.fits: is no table of ultracool dwarfs"):
        read_dwarfs(path)


def test_the_shipped_table_says_where_it_is_from():
    header = load_dwarfs().header
    assert "ATMO2020++" in header["source"] and "MIT" in header["licence"] and len(header["citations"]) == 3


# ---- spectra


def mean(spectrum, low, high):
    return spectrum[slice(*np.searchsorted(X, (low, high)))].mean()


@pytest.mark.parametrize("temperature", [600.0, 900.0, 1100.0])
def test_t_dwarfs_have_methane_and_water(temperature):
    spectrum = dwarf_spectrum(X, temperature, 0.6)
    assert mean(spectrum, 1.25, 1.29) > 5 * mean(spectrum, 1.38, 1.45)  # water
    assert mean(spectrum, 1.56, 1.60) > 2 * mean(spectrum, 1.67, 1.75)  # methane
    assert mean(spectrum, 3.9, 4.1) > 5 * mean(spectrum, 3.25, 3.4)


def test_an_m8_dwarf_has_the_band_ratios_of_trappist_1():
    """Gillon et al. (2017)'s star: H over J peak, water at 1.45 um, K; read off its published spectrum."""
    spectrum = dwarf_spectrum(X, 2566.0, 0.5)
    j = mean(spectrum, 1.25, 1.31)
    assert mean(spectrum, 1.42, 1.50) / j == pytest.approx(0.59, abs=0.07)
    assert mean(spectrum, 1.62, 1.70) / j == pytest.approx(0.69, abs=0.09)
    assert mean(spectrum, 1.92, 2.00) / j == pytest.approx(0.36, abs=0.06)
    assert mean(spectrum, 2.15, 2.25) / j == pytest.approx(0.37, abs=0.07)


def test_spectra_change_smoothly_with_temperature_from_table_to_bands():
    for temperature in (1200.0, 1800.0, 2700.0):
        below, above = (dwarf_spectrum(X, t, 0.3) for t in (temperature - 1.0, temperature + 1.0))
        assert np.abs(below - above).max() < 0.02


def test_hot_stars_are_rayleigh_jeans_and_a_stars_have_hydrogen_lines():
    hot, a, sun = (star_spectrum(X, t, 0.5) for t in (30_000.0, 9_000.0, 5_800.0))
    slope = np.log(mean(hot, 4.9, 5.1) / mean(hot, 2.45, 2.55)) / np.log(2.0)
    assert slope == pytest.approx(-4.0, abs=0.1)
    halpha = [mean(s, 0.654, 0.659) / mean(s, 0.67, 0.68) for s in (hot, a, sun)]
    assert halpha[1] < 0.95 * min(halpha[0], halpha[2])


def test_signal_to_noise_scatters_about_that_of_the_population():
    """By half a dex: so wide are galaxies."""
    batch = simulated(150, replace(CLEAN, photon_noise=0.0), star_fraction=0.5, featureless_fraction=0.5)
    sn = signal_to_noise(batch)
    assert np.median(np.log10(sn)) == pytest.approx(np.log10(15.0), abs=0.25)
    assert 0.4 < np.std(np.log10(sn)) < 0.75
    assert not batch.has_redshift.any() and not batch.line_flux.any()
    stars = np.array(batch.kind) == "star"
    assert signal_table(batch).splitlines()[1].split()[::4] == ["star", f"{np.median(sn[stars]):.1f}"]


def test_beyond_the_grid_there_is_a_break_and_no_redshift():
    batch = simulated(24, beyond_the_grid_fraction=1.0)
    assert set(batch.kind) == {"beyond-the-grid"} and not batch.has_redshift.any()
    for spectrum in batch.continuum:
        edge = batch.wavelength[np.argmax(spectrum > 0.03 * spectrum.max())]  # before the damping wing
        assert 0.1216 * 15.5 < edge < 0.1216 * 21.5
        assert spectrum[batch.wavelength < 1.8].max() < 0.01 * spectrum.max()


# ---- two sources


@pytest.fixture(scope="module")
def pairs():
    """Galaxies and the same ones with a second source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Population, "stream", 0)
        return simulated(48), simulated(48, two_sources_fraction=1.0)


def test_a_second_galaxy_adds_its_light_with_lines_at_its_own_redshift(pairs):
    alone, both = pairs
    np.testing.assert_array_equal(both.redshift, alone.redshift)
    assert set(both.trouble) == {"two-sources"} and np.isfinite(both.second_redshift).all()
    extra = both.noise_free - alone.noise_free
    assert (extra > -1e-9 * both.noise_free.max(axis=1, keepdims=True)).all()
    ratio = (both.continuum - alone.continuum).mean(axis=1) / alone.continuum.mean(axis=1)
    assert ratio.min() > 0.05 and ratio.max() < 5.0
    lines = extra - (both.continuum - alone.continuum)
    peak = both.wavelength[lines.argmax(axis=1)]
    rest = peak / (1.0 + both.second_redshift)
    assert (np.abs(rest[:, None] / load_lines().wavelength - 1.0).min(axis=1) < 2e-3).all()
    in_prism, inside = both.noise_free_prism - alone.noise_free_prism, np.linspace(1.0, 5.0, 8000)
    for one, other in zip(in_prism, extra, strict=True):
        prism = np.interp(inside, both.prism_wavelength, one).mean()
        assert prism == pytest.approx(np.interp(inside, both.wavelength, other).mean(), rel=0.03, abs=0)


def test_of_two_sources_the_first_has_a_redshift_if_either_has_and_nothing_has_no_companion():
    batch = simulated(96, two_sources_fraction=1.0, star_fraction=0.4, noise_fraction=0.2)
    kind, second = np.array(batch.kind), np.isfinite(batch.second_redshift)
    two = np.array(batch.trouble) == "two-sources"
    assert not two[kind == "noise"].any() and not second[~two].any()
    assert not second[kind == "star"].any()
    assert (two & batch.has_redshift & ~second).any() and (two & second).any()


# ---- trouble


@pytest.fixture(scope="module")
def spectra():
    rng = np.random.default_rng(1)
    flux = 5.0 + rng.normal(size=(400, 706))
    mask = np.zeros(flux.shape, bool)
    mask[:, :3] = True
    error = np.where(mask, np.nan, 1.0)
    return (np.where(mask, np.nan, flux), error, mask), rng.random((400, 8))


def test_backgrounds_are_smooth_and_many_continua_become_negative(spectra):
    arrays, u = spectra
    less = trouble.over_subtract(*arrays, u)[0] - arrays[0]
    more = trouble.under_subtract(*arrays, u)[0] - arrays[0]
    np.testing.assert_allclose(less[:, 3:], -more[:, 3:], atol=1e-12)
    assert (more[:, 3:] > 0).all()
    assert np.abs(np.diff(more[:, 3:], 2, axis=1)).max() < 1e-4 * more[:, 3:].max()
    assert 0.5 < np.mean(np.nanmedian(arrays[0] + less, axis=1) < 0) < 0.95


def test_a_step_is_one_factor_on_flux_and_error_and_some_lose_the_gap(spectra):
    (flux, error, mask), u = spectra
    new_flux, new_error, new_mask = trouble.step_between_detectors(flux, error, mask, u)
    good = ~new_mask
    ratio = np.where(good, new_flux / flux, np.nan)
    np.testing.assert_allclose(ratio[good], (new_error / error)[good], rtol=1e-12)
    assert all(1 <= np.unique(row[~np.isnan(row)].round(9)).size <= 2 for row in ratio)
    assert 1.04 < np.nanmax(np.abs(np.log(ratio)) + 1.0) < 1.48
    assert np.mean((new_mask & ~mask).sum(axis=1) > 70) == pytest.approx(1 / 3, abs=0.1)


def test_dips_take_light_and_hot_pixels_touch_few(spectra):
    (flux, error, mask), u = spectra
    dips = trouble.absorb(flux, error, mask, u)[0] - flux
    assert (dips[:, 3:] <= 0).all() and (dips[:, 3:].min(axis=1) < -1.0).mean() > 0.9
    heat = trouble.heat(flux, error, mask, u)[0] - flux
    assert ((np.abs(heat[:, 3:]) > 0).sum(axis=1) <= 10).all()
    off = np.nanmax(np.abs(heat), axis=1)
    assert np.mean(off > 5.0) > 0.95 and off.max() < 400.0


def test_absurd_errors_leave_the_flux_and_stay_positive(spectra):
    (flux, error, mask), u = spectra
    new_flux, new_error, _ = trouble.state_absurd_errors(flux, error, mask, u)
    np.testing.assert_array_equal(new_flux, flux)
    assert (new_error[~mask] > 0).all() and np.isfinite(new_error[~mask]).all()
    ratio = np.nanmedian(new_error, axis=1)
    which = np.floor(4 * u[:, 0])
    assert ratio[which == 0] == pytest.approx(0.01) and ratio[which == 1] == pytest.approx(100.0)
    assert (np.nanmax(new_error, axis=1) > 1e3 * np.nanmin(new_error, axis=1))[which == 3].all()


def test_the_core_of_the_brightest_line_is_masked_and_nothing_else():
    batch = simulated(40, masked_line_fraction=1.0)
    masked = batch.prism_mask.sum(axis=1)
    assert (masked >= 2).all() and (masked <= 7).all()
    lines = load_lines().wavelength
    for row in range(len(batch)):
        centre = batch.prism_wavelength[batch.prism_mask[row]].mean() / (1.0 + batch.redshift[row])
        assert np.abs(lines / centre - 1.0).min() < 0.02
    assert np.isnan(batch.prism_flux[batch.prism_mask]).all()


def test_trouble_comes_as_often_as_asked_for_and_in_no_other_rows():
    shares = {share_of(name): 0.1 for name in TROUBLES}
    found = trouble.draw_trouble(only(**shares), Draws(1, np.arange(2000)))
    count = np.bincount(found + 1, minlength=len(TROUBLES) + 1) / 2000
    assert count[1:] == pytest.approx(0.1, abs=0.02) and count[0] == pytest.approx(0.2, abs=0.03)
    batch = simulated(64, Nuisances(), over_subtracted_fraction=0.2, absurd_error_fraction=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Population, "stream", only(over_subtracted_fraction=0.2, absurd_error_fraction=0.2).stream
        )
        calm = simulated(64, Nuisances())
    same = np.array([name == "" for name in batch.trouble])
    np.testing.assert_array_equal(batch.prism_flux[same], calm.prism_flux[same])
    np.testing.assert_array_equal(batch.noise_free, calm.noise_free)
    some = simulate_batch(
        np.arange(20, 30),
        3,
        SimulationConfig(only(over_subtracted_fraction=0.2, absurd_error_fraction=0.2)),
        False,
    )
    np.testing.assert_array_equal(some.prism_flux, batch.prism_flux[20:30])


# ---- labels


def test_truth_and_catalogue_say_what_was_seen(tmp_path):
    config = SimulationConfig("open-sky")
    batch = simulate_batch(np.arange(200), 2, config)
    assert set(batch.kind) >= {*WITHOUT_REDSHIFT, "star-forming"} and set(batch.trouble) == {"", *TROUBLES}
    assert all(
        (name in WITHOUT_REDSHIFT) != has for name, has in zip(batch.kind, batch.has_redshift, strict=True)
    )
    assert set(chosen_examples(batch)) >= {*WITHOUT_REDSHIFT}
    for spectra in (batch.prism_flux, batch.prism_error):
        assert np.isfinite(spectra[~batch.prism_mask]).all()
    rows = catalogue_rows(batch, 2, config.population)
    assert (rows["z_Spec_flag"][~batch.has_redshift] == "E").all()
    assert (rows["z_Spec"][~batch.has_redshift] == -1.0).all()
    assert rows["trouble"].tolist() == list(batch.trouble) and rows["kind"].tolist() == list(batch.kind)
    (tmp_path / "truth").mkdir()
    write_truth_chunk(tmp_path / "truth" / "truth_00000.npz", batch)
    write_truth_index(tmp_path)
    reader = TruthReader(tmp_path)
    for row in (0, 50, 199, int(np.flatnonzero(np.isfinite(batch.second_redshift))[0])):
        truth = reader.get(batch.unique_id[row])
        assert (truth.kind, truth.trouble) == (batch.kind[row], batch.trouble[row])
        assert truth.has_redshift is bool(batch.has_redshift[row])
        np.testing.assert_equal(truth.second_redshift, batch.second_redshift[row])
