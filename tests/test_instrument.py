"""Pixel grids, resolving power and line-spread operators against physics and direct computation."""

from functools import lru_cache

import astropy.units as u
import numpy as np
import pytest
from scipy.optimize import curve_fit

from data_pipeline.instrument import (
    FWHM_PER_SIGMA,
    GRATINGS,
    PRISM,
    InstrumentEntry,
    degrading_operator,
    instrument_for,
    instrument_names,
    line_spread_operator,
    load_instrument,
    reference_instrument,
    register_instrument,
)
from data_pipeline.pixel_grid import UnifiedGrid, pixel_bounds
from data_pipeline.tables import read_table

DISPERSERS = (PRISM, *GRATINGS)


@lru_cache
def fine_operator(name):
    """An instrument's operator from its `fine_grid`."""
    instrument = load_instrument(name)
    return instrument.line_spread_operator(fine_grid(instrument).bounds)


def fine_grid(instrument, oversampling=4.0):
    """A grid that outreaches the instrument and has many pixels per line-spread function."""
    low, high = instrument.wavelength[[0, -1]]
    return UnifiedGrid(
        low * 0.8, high * 1.2, oversampling * FWHM_PER_SIGMA * instrument.resolving_power(high)
    )


def gaussian(wavelength, centre, sigma):
    return np.exp(-0.5 * ((wavelength - centre) / sigma) ** 2)


def moments(wavelength, bounds, flux):
    weight = flux * np.diff(bounds, axis=0)[0]
    centre = np.sum(weight * wavelength) / weight.sum()
    return weight.sum(), centre, np.sqrt(np.sum(weight * (wavelength - centre) ** 2) / weight.sum())


def test_prism_grid_is_the_archive_s():
    prism = load_instrument(PRISM)
    assert prism.wavelength.size == 706
    np.testing.assert_allclose(prism.wavelength[[0, 673, 705]], [0.60255, 5.30808, 5.45236], atol=2e-5)


def test_default_resolving_power_is_what_reduced_spectra_show():
    # facts section 5: uniform-slit R 30.1 at 1.18 um and 112 at 3.16 um, times 1.22
    np.testing.assert_allclose(
        load_instrument(PRISM).resolving_power([1.18, 3.16]), [36.7, 136.7], rtol=0.005
    )
    table = read_table("nirspec_g395m_uniform.ecsv")
    tabulated = np.interp(4.0, table["wavelength_um"], table["resolving_power"])
    assert load_instrument("nirspec-g395m").resolving_power(4.0) == pytest.approx(0.93 * tabulated)


def test_scale_and_illumination_are_selectable():
    uniform, point = load_instrument(PRISM, scale=1.0), load_instrument(PRISM, "point")
    assert 1.4 < point.resolving_power(3.0) / uniform.resolving_power(3.0) < 2.1
    assert uniform.with_scale(2.0).resolving_power(3.0) == pytest.approx(2 * uniform.resolving_power(3.0))


def test_prism_line_spread_function_is_constant_in_pixels():
    prism = load_instrument(PRISM)
    inside = (prism.wavelength > 1.4) & (prism.wavelength < 5.2)
    fwhm = prism.fwhm(prism.wavelength)[inside] / np.gradient(prism.wavelength)[inside]
    np.testing.assert_allclose(fwhm, 3.0, atol=0.06)


def test_beyond_its_table_an_instrument_keeps_its_fwhm():
    g235m = load_instrument("nirspec-g235m")
    assert g235m.fwhm(3.9) == pytest.approx(g235m.fwhm(3.5), rel=1e-3)


@pytest.mark.parametrize("name", DISPERSERS)
def test_flat_stays_flat(name):
    operator = fine_operator(name)
    assert operator.interior.all()
    np.testing.assert_allclose(operator.apply(np.ones(operator.matrix.shape[1])), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", DISPERSERS)
@pytest.mark.parametrize("place", [0.1, 0.25, 0.5, 0.9])
def test_line_keeps_its_flux_and_gets_the_tabulated_width(name, place):
    instrument, grid = load_instrument(name), fine_grid(load_instrument(name))
    centre = np.quantile(instrument.wavelength, place) * 1.00031
    line = gaussian(grid.wavelength, centre, instrument.sigma(centre) * 0.2)
    flux_in, centre_in, sigma_in = moments(grid.wavelength, grid.bounds, line)
    out = fine_operator(name).apply(line)
    flux_out, centre_out, sigma_out = moments(instrument.wavelength, instrument.bounds, out)
    pixel = np.interp(centre, instrument.wavelength, np.gradient(instrument.wavelength))
    assert flux_out == pytest.approx(flux_in, rel=1e-4)
    assert abs(centre_out - centre_in) < 0.03 * pixel
    assert sigma_out**2 == pytest.approx(sigma_in**2 + instrument.sigma(centre) ** 2, rel=0.01)
    fit, _ = curve_fit(
        lambda x, a, m, s: a * gaussian(x, m, s), instrument.wavelength, out, (out.max(), centre, pixel)
    )
    measured = fit[1] / (FWHM_PER_SIGMA * np.sqrt(fit[2] ** 2 - sigma_in**2))
    assert measured == pytest.approx(instrument.resolving_power(centre), rel=0.01)


def test_operator_agrees_with_direct_dense_computation():
    prism, grid = load_instrument(PRISM), UnifiedGrid(1.5, 3.0, 800.0)
    spectrum = 1.0 + np.sin(40 * grid.wavelength) + 5 * gaussian(grid.wavelength, 2.2, 0.004)
    out = prism.line_spread_operator(grid.bounds)
    rows = np.flatnonzero(out.interior)[::29]
    width_out = np.diff(prism.bounds, axis=0)[0]
    width_in = np.diff(grid.bounds, axis=0)[0]
    got = out.apply(spectrum)
    for i in rows:
        # both pixels split into points, the kernel of the pair evaluated at each, summed by hand
        inside = prism.bounds[0, i] + width_out[i] * (np.arange(12) + 0.5) / 12
        total = norm = 0.0
        for j in np.flatnonzero(
            np.abs(grid.wavelength - prism.wavelength[i]) < 8 * prism.sigma(prism.wavelength[i])
        ):
            middle = 0.5 * (prism.wavelength[i] + grid.wavelength[j])
            variance = prism.sigma(middle) ** 2 - (width_in[j] ** 2 + width_out[i] ** 2) / 12
            y = grid.bounds[0, j] + width_in[j] * (np.arange(4) + 0.5) / 4
            kernel = np.exp(-0.5 * (inside[:, None] - y) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
            total += spectrum[j] * kernel.mean() * width_in[j]
            norm += kernel.mean() * width_in[j]
        assert got[i] == pytest.approx(total / norm, rel=5e-4)


def test_degrading_the_reference_equals_observing_the_source():
    prism, reference = load_instrument(PRISM), reference_instrument()
    grid = UnifiedGrid(0.55, 5.6, 12000.0)
    source = 2.0 + sum(gaussian(grid.wavelength, c, c / 5000) * 300 for c in (1.1, 1.9, 3.1, 4.4))
    through = reference.line_spread_operator(grid.bounds).apply(source)
    degrade = degrading_operator()
    direct = prism.line_spread_operator(grid.bounds).apply(source)
    np.testing.assert_allclose(degrade.apply(through)[degrade.interior], direct[degrade.interior], rtol=0.004)


def test_a_degraded_mask_marks_gaps_and_edges():
    prism, reference, operator = load_instrument(PRISM), reference_instrument(), degrading_operator()
    mask = (reference.wavelength > 2.0) & (reference.wavelength < 2.2)
    out = operator.propagate_mask(mask)
    assert out[np.argmin(abs(prism.wavelength - 2.1))] and not out[np.argmin(abs(prism.wavelength - 3.0))]
    assert out[prism.wavelength < 0.69].all() and out[prism.wavelength > 5.32].all()


def test_places_in_pixels_run_on_beyond_both_ends():
    prism = load_instrument(PRISM)
    x, last = prism.wavelength, prism.wavelength.size - 1
    np.testing.assert_allclose(prism.position(x), np.arange(last + 1))
    outside = np.array([2 * x[0] - x[1], x[-1] + 2 * (x[-1] - x[-2])])
    np.testing.assert_allclose(prism.position(outside), [-1.0, last + 2.0])
    pixel, inside = prism.pixel_of(np.append(0.5 * (prism.bounds[0] + prism.bounds[1]), outside))
    np.testing.assert_array_equal(pixel, [*range(last + 1), 0, last])
    np.testing.assert_array_equal(inside, [True] * (last + 1) + [False, False])
    np.testing.assert_allclose(prism.pixel_width(x), prism.bounds[1] - prism.bounds[0])


def test_a_broader_input_than_output_is_refused():
    prism, reference = load_instrument(PRISM), reference_instrument()
    with pytest.raises(ValueError, match=r"as broad as the output at .* um; expected a sharper input"):
        reference.line_spread_operator(prism.bounds, seen_by=prism)


def test_reference_lies_between_its_gratings():
    reference, (_, g235m, g395m) = reference_instrument(), map(load_instrument, GRATINGS)
    assert reference.resolving_power(2.5) == pytest.approx(g235m.resolving_power(2.5), rel=1e-3)
    low, high = sorted((g235m.resolving_power(3.0), g395m.resolving_power(3.0)))
    assert low < reference.resolving_power(3.0) < high
    assert 600 < np.median(reference.resolving_power(reference.wavelength)) < 1400


def test_adding_an_instrument_is_a_table_and_one_entry(tmp_path):
    # Euclid's red grism: constant dispersion of 13.4 A per pixel, R about 450 for a small source
    table = tmp_path / "euclid_red_grism.ecsv"
    wavelength = np.linspace(1.2, 1.9, 71)
    rows = "\n".join(f"{w:.4f} {450 * w / 1.5:.2f} 0.00134" for w in wavelength)
    table.write_text(f"# %ECSV 1.0\n# ---\nwavelength_um resolving_power dispersion_um_per_pixel\n{rows}\n")
    register_instrument(
        InstrumentEntry("euclid-red-grism", "RGS", "NONE", (1.206, 1.892), {"uniform": str(table)})
    )
    assert "euclid-red-grism" in instrument_names() and instrument_for("rgs") == "euclid-red-grism"
    euclid = load_instrument("euclid-red-grism")
    np.testing.assert_allclose(np.diff(euclid.wavelength), 0.00134, rtol=1e-6)
    grid = fine_grid(euclid)
    out = euclid.line_spread_operator(grid.bounds).apply(gaussian(grid.wavelength, 1.5, 1e-4))
    sigma = moments(euclid.wavelength, euclid.bounds, out)[2]
    assert 1.5 / (FWHM_PER_SIGMA * sigma) == pytest.approx(450, rel=0.01)
    with pytest.raises(ValueError, match="registered already"):
        register_instrument(InstrumentEntry("euclid-red-grism", "RGS", "NONE", (1.3, 1.8), {"uniform": "x"}))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        KeyError, match=r"unknown instrument 'nirspec-g999m'; known instruments: .*nirspec-prism"
    ):
        load_instrument("nirspec-g999m")
    with pytest.raises(KeyError, match="no curve for illumination 'star'; known: point, uniform"):
        load_instrument(PRISM, "star")
    with pytest.raises(KeyError, match="no instrument with disperser 'xyz'"):
        instrument_for("xyz")
    with pytest.raises(FileNotFoundError, match=r"table 'nothing\.ecsv' not found"):
        read_table("nothing.ecsv")


def test_pixel_bounds_leave_gaps_uncovered():
    wavelength = np.concatenate([np.arange(1.0, 1.1, 0.001), np.arange(1.3, 1.4, 0.001)])
    bounds = pixel_bounds(wavelength)
    np.testing.assert_allclose(np.diff(bounds, axis=0)[0], 0.001, rtol=0.3)
    assert np.sum(np.diff(bounds, axis=0)) == pytest.approx(0.2, rel=0.01)
    np.testing.assert_array_equal(bounds[0, 1:100], bounds[1, :99])


@pytest.mark.parametrize(
    ("wavelength", "text"),
    [
        ([1.0], "two or more pixel centres"),
        ([1.0, 1.0, 2.0], r"increasing wavelengths, got 1.000000 then 1.000000 um"),
    ],
)
def test_pixel_bounds_refuse_what_is_no_grid(wavelength, text):
    with pytest.raises(ValueError, match=text):
        pixel_bounds(np.array(wavelength))


def test_unified_grid():
    grid = UnifiedGrid()
    np.testing.assert_allclose(np.diff(np.log(grid.wavelength)), 1 / 3000)
    assert grid.wavelength[0] == 0.7 and 5.298 < grid.wavelength[-1] <= 5.3
    np.testing.assert_allclose(grid.bounds[0, 1:], grid.bounds[1, :-1])
    # at least the gratings' native sampling where each is in charge
    for name, stop in zip(GRATINGS, (1.66, 2.87, 5.2), strict=True):
        native = load_instrument(name).wavelength
        step = np.interp(stop, native[1:], np.diff(native))
        assert stop / grid.sampling <= step * 1.0, name
    with pytest.raises(ValueError, match=r"expected 0 < start < stop, got start=5\.0, stop=1\.0 um"):
        UnifiedGrid(5.0, 1.0)


def test_bounds_may_differ_in_units_only_at_the_border():
    # the operator takes um: the same grids in Angstrom with a width in Angstrom give the same weights
    prism, grid = load_instrument(PRISM), UnifiedGrid(2.0, 3.0, 1000.0)
    scale = (1 * u.um).to_value(u.AA)
    a = line_spread_operator(grid.bounds, prism.bounds, prism.sigma)
    b = line_spread_operator(
        grid.bounds * scale, prism.bounds * scale, lambda x: prism.sigma(x / scale) * scale
    )
    assert abs(a.matrix - b.matrix).max() < 1e-9
