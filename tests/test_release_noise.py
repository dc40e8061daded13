"""The measurement of released noise finds what was put in: correlations, line widths, zero points."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import release_noise
from benchmarks.release_noise import (
    line_width_and_place,
    matching_correlation,
    measured_noise,
    simulated_noise,
)
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.instrument.prism_pixels import NEIGHBOURS, released_pixels, sampling_of
from data_pipeline.lines import load_lines
from data_pipeline.lines.profile import render_lines
from data_pipeline.simulation.noise import grating_noise
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.writers.jades import write_jades_x1d

RNG = np.random.default_rng(7)


def spectrum(release="dja-v4", correlation=0.0, flux=0.0, **meta):
    wavelength = released_pixels(release)
    error = np.linspace(1.0, 2.0, wavelength.size) * 1e-21
    noise = grating_noise(RNG.normal(size=(1, wavelength.size + 1)), correlation)[0]
    meta = SpectrumMeta(disperser="PRISM", **meta)
    return ObservedSpectrum(wavelength, flux + error * noise, error, np.zeros(error.size, bool), meta)


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_the_correlation_of_neighbours_is_found_whatever_the_running_median_does(correlation):
    parts = [measured_noise(spectrum(correlation=correlation, flux=5e-21)) for _ in range(60)]
    sums = sum(parts[1:], parts[0])
    sampling, pixels = sampling_of(released_pixels("dja-v4")), 473
    assert sums.correlation[0] < correlation - 0.1  # the median's doing
    match = matching_correlation(sampling, pixels, sums.correlation[0])
    assert match == pytest.approx(correlation, abs=0.04)
    assert sums.scatter == pytest.approx(simulated_noise(sampling, pixels, correlation).scatter, rel=0.03)


def test_interpolated_pixels_look_as_jades_s_do():
    found = simulated_noise(sampling_of(released_pixels("jades")), 706, None)
    assert found.correlation == pytest.approx([0.50, -0.16, -0.34], abs=0.02)  # docs/design.md, noise


def test_width_and_place_of_a_line_are_found():
    lines, z = load_lines(), 3.2
    prism = load_instrument(PRISM, scale=1.44).with_pixels(released_pixels("dja-v4"))
    centre = lines.wavelength[[lines.index("[OIII]_5008"), lines.index("[OIII]_4960")]] * (1 + z)
    flux, width = np.array([1.0, 1.0 / 2.984]) * 1e-16, np.full(2, 100.0)
    line = render_lines(prism, centre * (1 + 180 / 299792.458), flux, width)
    scale, velocity, snr = line_width_and_place(spectrum(flux=line[0] + 2e-20), z)
    assert scale == pytest.approx(1.44, abs=0.07) and velocity == pytest.approx(180, abs=130) and snr > 20
    assert line_width_and_place(spectrum(), 12.0) is None


def test_the_command_prints_a_row_for_each_kind_of_pixels(tmp_path, capsys):
    for number, release in enumerate(("jades", "dja-v4", "dja-v4")):
        one = spectrum(release, NEIGHBOURS, source_id=f"{number}", filter="CLEAR")
        write_jades_x1d(tmp_path / f"{number}_x1d.fits", one, one)
    (tmp_path / "other.fits").write_bytes(b"no spectrum")
    redshifts = ["--redshift", "3.2", "--prism-redshift", "3.2021"]
    assert release_noise.main([str(tmp_path), *redshifts, "--quiet"]) == 0
    text = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["jades-dr4, 473 pixels"][3:5] == ["2", "0.953"]
    assert rows["jades-dr4, 706 pixels"][3:5] == ["1", "0.600"]
    assert "R / table" in text
    assert "prism redshifts over gratings' of 3 spectra: 150 km/s, 16-84 % 150 to 150" in text
    assert release_noise.main([str(tmp_path / "nothing"), "--quiet"]) == 2
    assert "no prism spectrum in it or below" in capsys.readouterr().err


def test_a_zero_point_is_taken_off_the_wavelengths_and_noted():
    given = spectrum(flux=1e-20)
    moved = given.without_zero_point(180.0)
    np.testing.assert_allclose(given.wavelength / moved.wavelength - 1.0, 180.0 / 299792.458, rtol=1e-9)
    width = [np.diff(one.wavelength) for one in (given, moved)]
    np.testing.assert_allclose(moved.flux[1:] * width[1], given.flux[1:] * width[0], rtol=1e-12)
    assert moved.meta.zero_point == 180.0 and moved.meta.notes[-1].startswith(
        "wavelengths moved by a zero point"
    )
    assert np.isnan(given.meta.zero_point)
    with pytest.raises(ValueError, match="a zero point of 180 km/s was taken off before, and 90 km/s asked"):
        moved.without_zero_point(90.0)
    with pytest.raises(ValueError, match="zero point 4000 km/s; expected one between"):
        replace(given).without_zero_point(4000.0)
