from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy import sparse

from data_pipeline.catalogue import read_catalogue
from data_pipeline.compare import HEADER, compare, main, table_row
from data_pipeline.instrument import FWHM_PER_SIGMA, GRATINGS, PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.single_line import fit_profile
from data_pipeline.pairs.arm_comparison import (
    GRATING_CORRELATION,
    PRISM_CORRELATION,
    compare_arms,
    noise_covariance,
)
from data_pipeline.pairs.matching import find_catalogue, match, scan_archive
from data_pipeline.pairs.preprocessing import PreprocessingConfig, make_pair
from data_pipeline.simulation.archive import write_archive
from data_pipeline.simulation.noise import detector_pixels, grating_noise, prism_noise
from pair_sample import REDSHIFT, UNIT, line, observe

CONFIG = PreprocessingConfig()
HALPHA = {"Halpha": 2.863}
LIGHT_SPEED = 299792.458  # km/s, CODATA


def centre_of(redshift=REDSHIFT):
    lines = load_lines()
    return lines.wavelength[lines.index("Halpha")] * (1 + redshift)


def shifted(velocity):
    return REDSHIFT + (1 + REDSHIFT) * velocity / LIGHT_SPEED


def both_arms(prism, gratings):
    pair = make_pair(prism, gratings, REDSHIFT, CONFIG)
    return compare_arms(pair, REDSHIFT, CONFIG.grid)


@pytest.fixture(scope="module")
def gratings():
    return [observe(name, lines=HALPHA) for name in GRATINGS]


def profile(noise=None, covariance=None, centre=None, error=1e-21):
    """The line of `pair_sample` on prism pixels, with or without noise, as fitted."""
    prism = load_instrument(PRISM)
    flux = 5e-20 + UNIT * line(prism, centre_of()) + (0.0 if noise is None else noise)
    start = centre_of() if centre is None else centre
    return fit_profile(
        prism.wavelength,
        prism.bounds,
        flux,
        np.full(flux.size, error),
        np.zeros(flux.size, bool),
        start,
        prism.fwhm(centre_of()),
        covariance=covariance,
    )


@pytest.mark.parametrize("off", [0.0, 0.004, -0.004])
def test_profile_gives_back_centre_width_and_flux(off):
    prism, centre = load_instrument(PRISM), centre_of()
    found = profile(centre=centre + off)
    pixel = np.interp(centre, prism.wavelength, np.diff(prism.bounds, axis=0)[0])
    # The pixels that `line` averages over are no part of the profile's own width.
    width = FWHM_PER_SIGMA * np.sqrt(
        prism.sigma(centre) ** 2 - pixel**2 / 12 + (80 * centre / LIGHT_SPEED) ** 2
    )
    assert found.flux == pytest.approx(UNIT, rel=1e-3, abs=0)
    assert abs(found.centre - centre) < 1e-3 * width
    assert found.fwhm == pytest.approx(width, rel=1e-3, abs=0)


@pytest.mark.parametrize("correlated", [False, True])
def test_profile_errors_are_the_scatter_of_noise(correlated):
    rng, error, pixels = np.random.default_rng(11), 1e-22, 706
    count = 300
    if correlated:
        normal = rng.normal(size=(count, detector_pixels(pixels)))
        noise = np.sqrt(1.5) * error * prism_noise(normal, rng.uniform(size=count), pixels)
        covariance = noise_covariance(np.full(pixels, error), PRISM_CORRELATION, np.ones(pixels))
    else:
        noise, covariance = error * rng.normal(size=(count, pixels)), None
    found = [profile(one, covariance, error=error) for one in noise]
    for name in ("centre", "fwhm", "flux"):
        quoted = np.array([getattr(p, f"{name}_error") for p in found])
        scatter = np.std([getattr(p, name) for p in found])
        assert np.median(quoted) == pytest.approx(scatter, rel=0.15, abs=0)


def test_diagonal_covariance_is_the_same_as_errors_alone():
    alone, error = profile(), 1e-21
    diagonal = profile(covariance=sparse.diags(np.full(706, error**2)))
    for name in ("centre_error", "fwhm_error", "flux_error"):
        assert getattr(diagonal, name) == pytest.approx(getattr(alone, name), rel=1e-6, abs=0)


def test_profile_needs_six_pixels_and_says_where():
    prism, centre = load_instrument(PRISM), centre_of()
    ones, mask = np.ones(706), np.abs(prism.wavelength - centre) > 0.02
    with pytest.raises(
        ValueError, match=rf"\d good pixels within 3.0 FWHM of {centre:.4f} um; six are needed"
    ):
        fit_profile(prism.wavelength, prism.bounds, ones, ones, mask, centre, 0.04)


def test_profile_that_does_not_converge_is_an_error_with_its_place(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no minimum")

    monkeypatch.setattr("data_pipeline.lines.single_line.curve_fit", fail)
    with pytest.raises(ValueError, match=rf"no line could be fitted at {centre_of():.4f} um: no minimum"):
        profile()


def test_covariance_of_pixels_is_positive_and_has_the_stated_correlations():
    error = np.linspace(1.0, 2.0, 50)
    for correlation in (PRISM_CORRELATION, GRATING_CORRELATION):
        for oversampling in (1.0, 1.4, 2.0):
            dense = noise_covariance(error, correlation, np.full(50, oversampling)).toarray()
            np.testing.assert_allclose(np.diag(dense), error**2)
            assert np.linalg.eigvalsh(dense).min() > -1e-9
            if oversampling == 1.0:
                assert dense[4, 5] / (error[4] * error[5]) == pytest.approx(correlation[1])
                assert dense[4, 4 + len(correlation) - 1] == 0.0


def test_same_light_in_both_arms_agrees(gratings):
    found = both_arms(observe(PRISM, lines=HALPHA), gratings)
    assert found.line == "Halpha"
    assert abs(found.shift[0]) < 20  # 1 % of a prism pixel there
    assert found.width_ratio[0] == pytest.approx(1.0, abs=0.01)
    assert found.flux_ratio[0] == pytest.approx(1.0, abs=0.005)
    assert found.grating.flux == pytest.approx(HALPHA["Halpha"] * UNIT, rel=0.01, abs=0)


@pytest.mark.parametrize("velocity", [300.0, -500.0])
def test_zero_point_shift_of_the_prism_is_recovered(gratings, velocity):
    found = both_arms(observe(PRISM, lines=HALPHA, redshift=shifted(velocity)), gratings)
    assert found.shift[0] == pytest.approx(velocity, abs=20)
    assert found.width_ratio[0] == pytest.approx(1.0, abs=0.01)


def test_wider_line_and_other_flux_scale_of_the_prism_are_recovered(gratings):
    found = both_arms(observe(PRISM, scale=1.2, velocity=1500.0, lines=HALPHA), gratings)
    sigma, centre = load_instrument(PRISM).sigma(centre_of()), centre_of()
    wide, narrow = (np.hypot(sigma, centre * v / LIGHT_SPEED) for v in (1500.0, 80.0))
    assert found.width_ratio[0] == pytest.approx(wide / narrow, abs=0.02)
    assert found.flux_ratio[0] == pytest.approx(1.2, rel=0.01)


def test_errors_of_shift_width_and_flux_ratio_match_their_scatter(gratings):
    rng, found = np.random.default_rng(5), []
    prism = observe(PRISM, lines=HALPHA)
    for _ in range(40):
        noisy = []
        for arm in gratings:
            noise = 5e-21 * grating_noise(rng.normal(size=(1, len(arm) + 1)), 0.42)[0]
            noisy.append(arm.replace(flux=arm.flux + noise, error=np.full(len(arm), 5e-21)))
        drawn = prism_noise(rng.normal(size=(1, detector_pixels(706))), rng.uniform(size=1), 706)[0]
        seen = prism.replace(flux=prism.flux + 5e-22 * np.sqrt(1.5) * drawn, error=np.full(706, 5e-22))
        found.append(both_arms(seen, noisy))
    for name, true in (("shift", 0.0), ("width_ratio", 1.0), ("flux_ratio", 1.0)):
        value, error = np.array([getattr(c, name) for c in found]).T
        pull = (value - true) / error
        assert abs(pull.mean()) < 0.6
        assert 0.7 < pull.std() < 1.35


def test_no_common_line_is_said(gratings):
    blind = observe(PRISM, lines=HALPHA)
    blind = blind.replace(mask=np.abs(blind.wavelength - centre_of()) < 0.1)
    pair = make_pair(blind, [g for g in gratings if g.meta.disperser == "G235M"], REDSHIFT, CONFIG)
    only = np.arange(load_lines().wavelength.size) == load_lines().index("Halpha")
    object.__setattr__(pair.lines, "flux", np.where(only, pair.lines.flux, np.nan))
    with pytest.raises(ValueError, match="no line lies on good pixels of both prism and gratings"):
        compare_arms(pair, REDSHIFT, CONFIG.grid)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    write_archive(folder, 8, 3, workers=1, progress=False)
    return folder


def test_table_has_units_errors_and_short_rows(archive, capsys):
    assert main(["--archive", str(archive)]) == 0
    names, quantities, units = HEADER.splitlines()
    assert "degraded" in names and quantities.count("FWHM") == 3
    assert units.count("[um]") == units.count("[nm]") == units.count("[1e-20*]") == 3
    assert "[km/s]" in units
    out = capsys.readouterr().out
    rows = [text for text in out.splitlines() if text.startswith("goods-")]
    assert len(rows) >= 4 and all(row.count("+-") == 3 for row in rows)
    assert max(map(len, out.splitlines())) < 200
    assert "* erg s^-1 cm^-2" in out


def test_row_holds_the_figures(gratings):
    found = both_arms(observe(PRISM, lines=HALPHA), gratings)
    row = table_row("galaxy", REDSHIFT, "G140M+G235M+G395M", found)
    assert f"{found.flux_ratio[0]:6.3f}+-{found.flux_ratio[1]:<5.3f}" in row
    assert f"{found.prism.centre:7.4f} {found.prism.fwhm * 1e3:5.1f} {found.prism.flux / 1e-20:8.0f}" in row
    assert len(row) <= len(HEADER.splitlines()[0]) < 200


def test_missing_redshift_is_worded_so_and_costs_no_exit_status(archive, tmp_path, capsys):
    _, found, dropped = compare(str(archive), "", "")
    names = [p.name.split("_")[3:5] for p in sorted(archive.rglob("*clear-prism*.fits"))]
    assert len(found) + len(dropped) == len(names)
    table = Table.read(next(archive.glob("*.fits")), hdu=1)
    catalogue = tmp_path / "mine.csv"
    rows = [(f"{row['Unique_ID']}", float(row["z_Spec"])) for row in table]
    rows[0] = (rows[0][0], float("nan"))
    Table(rows=rows, names=("Unique_ID", "z")).write(catalogue)
    code = main(["--archive", str(archive), "--catalogue", str(catalogue), "--columns", "redshift=z"])
    shown = capsys.readouterr()
    assert f"left out: {rows[0][0]}: secure redshift: no redshift" in shown.err
    assert "could not be read" not in shown.err
    assert code == 0


def test_unreadable_files_make_exit_status_1_and_cost_only_themselves(archive, tmp_path, capsys):
    copy = tmp_path / "archive"
    for path in sorted(archive.rglob("*.fits")):
        target = copy / path.relative_to(archive)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    matches, _ = match(scan_archive(copy)[0], read_catalogue(find_catalogue(copy)))
    several = [m for m in matches if len(m.gratings) > 1]
    prism, grating = Path(several[0].prism), Path(several[1].gratings[0])
    for path in (prism, grating):
        path.write_bytes(path.read_bytes()[:4000])
    assert main(["--archive", str(copy)]) == 1
    shown = capsys.readouterr()
    assert "2 could not be read:" in shown.err
    assert prism.name in shown.err and grating.name in shown.err
    assert sum(text.startswith("goods-") for text in shown.out.splitlines()) >= 3
    assert main(["--archive", str(tmp_path / "none")]) == 1
    assert "is not a folder" in capsys.readouterr().err
