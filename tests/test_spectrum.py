import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.spectrum import FLUX_UNIT, ObservedSpectrum, SpectrumError, SpectrumMeta

C = 2.99792458e18  # Angstrom/s
META = SpectrumMeta(path="a.fits", hdu="SPEC")


def build(wavelength=(1.0, 2.0, 3.0), flux=(1.0, 2.0, 3.0), error=(0.1, 0.1, 0.1), mask=None, **units):
    """Spectrum in the units given; um and erg/s/cm2/A otherwise."""
    flux_unit = units.get("flux_unit", FLUX_UNIT)
    return ObservedSpectrum.from_quantities(
        np.array(wavelength) * units.get("wave_unit", u.um),
        np.array(flux) * flux_unit,
        np.array(error) * units.get("error_unit", flux_unit),
        mask,
        META,
    )


@given(st.floats(0.1, 30), st.floats(-10, 10), st.floats(1e-3, 10))
def test_units_convert_as_the_formula_says(wavelength, flux, error):
    read = build([wavelength, 2 * wavelength], [flux, flux], [error, error], flux_unit=u.uJy)
    factor = 1e-29 * C / (np.array([1, 2]) * wavelength * 1e4) ** 2
    np.testing.assert_allclose(read.flux, flux * factor, rtol=1e-12)
    np.testing.assert_allclose(read.error, error * factor, rtol=1e-12)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [(u.W / u.m**3, 1e-7), (u.erg / u.s / u.cm**2 / u.um, 1e-4), (u.Unit("1e-20 W / m3"), 1e-27)],
)
def test_flux_densities_per_wavelength(unit, factor):
    np.testing.assert_allclose(build(flux_unit=unit).flux, np.array([1, 2, 3]) * factor, rtol=1e-14)


@pytest.mark.parametrize(("unit", "wavelength"), [(u.AA, 1e-4), (u.nm, 1e-3), (u.m, 1e6)])
def test_wavelength_units(unit, wavelength):
    np.testing.assert_allclose(build(wave_unit=unit).wavelength, np.array([1, 2, 3]) * wavelength, rtol=1e-14)


def test_flux_and_error_may_differ_in_unit():
    read = build(flux_unit=u.W / u.m**3, error_unit=FLUX_UNIT)
    np.testing.assert_allclose(read.error, [0.1, 0.1, 0.1])
    np.testing.assert_allclose(read.flux, [1e-7, 2e-7, 3e-7])


def test_unmasked_pixels_are_finite_with_positive_errors():
    read = build(range(1, 8), [1, np.nan, np.inf, 1, 1, 1, 1], [1, 1, 1, 0, -1, np.nan, 1])
    np.testing.assert_array_equal(read.mask, [False, True, True, True, True, True, False])
    assert len(read.meta.notes) == 3
    np.testing.assert_array_equal(np.isfinite(read.signal_to_noise), ~read.mask)


def test_input_arrays_are_left_alone():
    mask = np.array([False, True, False])
    flux = np.array([np.nan, 1.0, 1.0])
    read = build(flux=flux, mask=mask)
    assert mask.tolist() == [False, True, False]
    assert read.mask.tolist() == [True, True, False]


def test_pixels_without_a_wavelength_are_dropped():
    read = build([np.nan, 1, 0, 2, -1], range(5), np.ones(5), [False, False, False, True, False])
    np.testing.assert_array_equal(read.wavelength, [1, 2])
    np.testing.assert_array_equal(read.flux, [1, 3])
    np.testing.assert_array_equal(read.mask, [False, True])
    assert read.meta.notes == ("3 pixels without a wavelength dropped",)


def test_descending_and_frequency_grids_are_reversed():
    read = build([3.0, 2.0, 1.0], [3, 2, 1], [0.3, 0.2, 0.1])
    np.testing.assert_array_equal(read.wavelength, [1, 2, 3])
    np.testing.assert_array_equal(read.flux, [1, 2, 3])
    assert np.all(np.diff(build(wave_unit=u.PHz).wavelength) > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"wavelength": [1.0, 3.0, 2.0]},
            r"unsorted wavelengths at rows 1 and 2 \(3\.000000 and 2\.000000 um\)",
        ),
        ({"wavelength": [1.0, 1.0, 2.0]}, r"duplicate wavelengths at rows 0 and 1 .* merge or drop"),
        ({"wavelength": [np.nan, np.nan, 2.0]}, r"1 pixels have a wavelength; a spectrum needs two or more"),
        ({"wave_unit": u.s}, r"wavelengths come in s; expected a length"),
        ({"flux_unit": u.ct, "error_unit": FLUX_UNIT}, r"flux comes in ct; expected a flux density, such as"),
        ({"error_unit": u.ct}, r"error comes in ct; expected a flux density"),
        ({"mask": [True, True, True]}, r"all 3 pixels are bad \(mask given\)"),
        ({"mask": [True, True]}, r"expected one-dimensional columns of equal length, got .*'mask': \(2,\)"),
    ],
)
def test_errors_name_file_hdu_and_cure(arguments, message):
    with pytest.raises(SpectrumError, match=rf"a\.fits\[SPEC\]: {message}"):
        build(**arguments)


def test_signal_to_noise_and_specutils_agree():
    read = build(mask=[False, True, False])
    np.testing.assert_allclose(read.signal_to_noise, [10, np.nan, 30])
    theirs = read.to_specutils()
    assert theirs.flux.unit == FLUX_UNIT and theirs.spectral_axis.unit == u.um
    np.testing.assert_array_equal(theirs.uncertainty.array, read.error)
    np.testing.assert_array_equal(theirs.mask, read.mask)
    assert theirs.meta["path"] == "a.fits"
