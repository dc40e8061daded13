"""Line fluxes fitted on the native pixels of the gratings."""

import numpy as np
import pytest

from data_pipeline.building.sources import _spectra
from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.grating_fit import FittedArm, fit_lines
from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, check_quality, make_pair
from data_pipeline.simulation import Nuisances, Population, SimulationConfig, simulate_batch
from pair_sample import FLUX, REDSHIFT, UNIT, observe


def fit(spectra, redshift=REDSHIFT):
    arms = []
    for s in spectra:
        instrument = load_instrument(f"nirspec-{s.meta.disperser.lower()}").with_pixels(s.wavelength)
        arms.append(FittedArm(instrument, s.flux, s.error, s.mask))
    return fit_lines(arms, redshift)


@pytest.fixture(scope="module")
def fitted():
    return fit([observe(name) for name in GRATINGS])


def test_fitted_lines_are_the_injected_ones(fitted):
    result = fitted
    for key in ("Hbeta", "[OIII]_5008", "Halpha", "[NII]_6585"):
        assert result.flux[result.names.index(key)] == pytest.approx(FLUX[key] * UNIT, rel=0.03, abs=0), key
    doublet = sum(result.flux[result.names.index(k)] for k in ("[OII]_3727", "[OII]_3730"))
    assert doublet == pytest.approx(4.698 * UNIT, rel=0.03, abs=0)
    absent = result.flux[result.names.index("[OI]_6302")]
    assert abs(absent) < 0.02 * UNIT
    assert not result.covered[result.names.index("Lya")] and np.isnan(result.flux[result.names.index("Lya")])


def test_fitted_errors_are_the_scatter():
    rng = np.random.default_rng(11)
    got, quoted = [], []
    for _ in range(150):
        r = fit([observe("nirspec-g235m", 1.0, 5e-21, rng)])
        got.append(r.flux[r.names.index("Halpha")])
        quoted.append(r.error[r.names.index("Halpha")])
    assert np.mean(got) == pytest.approx(FLUX["Halpha"] * UNIT, rel=0.03, abs=0)
    # the freedom of the width is not in the error of a bright line
    assert 0.85 < np.std(got) / np.median(quoted) < 1.35


def test_ratios_fixed_by_atomic_physics_are_kept(fitted):
    r = fitted
    value = dict(zip(r.names, r.flux, strict=True))
    assert value["[OIII]_5008"] / value["[OIII]_4960"] == pytest.approx(2.9842)
    assert value["[NII]_6585"] / value["[NII]_6550"] == pytest.approx(2.942)


def test_signal_to_noise_of_tied_lines_counts_them_once(fitted):
    r = fitted
    index = [r.names.index(n) for n in ("[OII]_3727", "[OII]_3730")]
    single = r.flux[index[0]] / r.error[index[0]]
    assert r.signal_to_noise("[OII]_3727", "[OII]_3730") == pytest.approx(single)
    assert np.isnan(r.signal_to_noise("Lya"))


def test_a_fit_needs_a_redshift():
    with pytest.raises(ValueError, match="finite redshift above -1, got nan"):
        fit([observe("nirspec-g235m")], np.nan)


def correlated(spectrum, rng, sigma=5e-21):
    """Gaussian noise whose neighbours correlate by 0.42 as in JADES gratings, the quoted error as usual."""
    weight = (1 - np.sqrt(1 - 4 * 0.42**2)) / (2 * 0.42)  # of the neighbour in a moving average
    white = rng.normal(size=spectrum.flux.size + 1)
    noise = (white[1:] + weight * white[:-1]) / np.hypot(1.0, weight)
    return spectrum.replace(flux=spectrum.flux + sigma * noise, error=np.full(noise.shape, sigma))


def test_correlated_noise_enlarges_the_errors_to_the_scatter():
    rng, clean = np.random.default_rng(13), observe("nirspec-g235m")
    runs = [fit([correlated(clean, rng)]) for _ in range(100)]
    white = fit([observe("nirspec-g235m", 1.0, 5e-21, rng)])
    faint = white.covered & (np.array(white.names) != "Halpha")
    quoted = np.median([r.error for r in runs], axis=0)[faint]
    # sqrt(1 + 2 x 0.42) = 1.36 for a feature much wider than a pixel
    assert np.all((quoted / white.error[faint] > 1.2) & (quoted / white.error[faint] < 1.36))
    scatter = np.std([r.flux for r in runs], axis=0)[faint]
    assert np.median(scatter / quoted) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("velocity", [0, 50, 100, 150, 250])
def test_flux_and_width_are_recovered_whatever_the_velocity_width(velocity):
    spectra = [observe(name, velocity=velocity) for name in GRATINGS]
    result = fit([s.replace(error=s.error / 10) for s in spectra])
    for key in ("Hbeta", "[OIII]_5008", "Halpha"):
        assert result.flux[result.names.index(key)] == pytest.approx(FLUX[key] * UNIT, rel=0.03, abs=0), key
    assert result.velocity_width == pytest.approx(velocity, abs=20) or velocity + result.velocity_width < 90


def test_a_line_that_lost_more_than_half_its_core_is_not_covered():
    spectrum = observe("nirspec-g235m")
    instrument = load_instrument("nirspec-g235m")
    centre = load_lines().wavelength[load_lines().index("Halpha")] * (1 + REDSHIFT)
    half = 0.5 * instrument.fwhm(centre)
    low, high = instrument.bounds
    core = (high > centre - half) & (low < centre + half)
    lost = core & (np.arange(core.size) != np.argmin(abs(spectrum.wavelength - centre)))
    for mask, covered in ((lost, False), (np.roll(core, core.sum()), True)):
        result = fit([spectrum.replace(mask=mask)])
        i = result.names.index("Halpha")
        assert bool(result.covered[i]) is covered and np.isnan(result.flux[i]) != covered


PLAIN = Nuisances(flux_ratio=1.0, flux_ratio_scatter=0.0, flux_ratio_drift=0.0, arm_scale_scatter=0.0,
                  outlier_fraction=0.0)  # fmt: skip


def test_pulls_of_faint_lines_have_unit_width_and_no_bias():
    batch = simulate_batch(
        np.arange(24), 5, SimulationConfig(Population(broad_line_fraction=0.0, noise_fraction=0.0), PLAIN)
    )
    pulls = []
    for i in range(24):
        lines = make_pair(*_spectra(batch, i), float(batch.redshift[i])).lines
        alone = np.bincount(lines.tied_to, minlength=len(lines.names)) == 1
        free = lines.covered & alone & (lines.tied_to == np.arange(len(lines.names)))
        faint = free & (batch.line_flux[i] < 10 * lines.error)
        pulls.append(((lines.flux - batch.line_flux[i]) / lines.error)[faint])
    pulls = np.concatenate(pulls)
    middle = np.median(pulls)
    assert pulls.size >= 300
    assert 1.4826 * np.median(abs(pulls - middle)) == pytest.approx(1.0, abs=0.15)
    assert abs(middle) < 0.2 and np.mean(abs(pulls) > 4) < 0.01


def test_blank_spectra_do_not_pass_the_quality_cut():
    rng, config, passed = np.random.default_rng(17), PreprocessingConfig(), 0
    blank = observe("nirspec-g235m", 0.0), observe(PRISM, 0.0)
    for redshift in rng.uniform(2.0, 4.5, 200):
        pair = make_pair(blank[1], [correlated(blank[0], rng)], redshift, config)
        try:
            check_quality(pair, config)
            passed += 1
        except QualityError:
            pass
    assert passed < 0.01 * 200
