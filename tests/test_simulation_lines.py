"""Lines of the simulator: rendering and the ratios that atomic physics fixes."""

import hashlib
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

from data_pipeline.instrument import GRATINGS, PRISM, SPEED_OF_LIGHT, load_instrument, reference_instrument
from data_pipeline.lines import list_of, load_lines
from data_pipeline.lines.profile import render_lines
from data_pipeline.simulation.attenuation import calzetti, cardelli
from data_pipeline.simulation.config import KINDS, POPULATIONS
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.further_lines import add_further_lines
from data_pipeline.simulation.galaxies import draw_galaxies
from data_pipeline.simulation.line_fluxes import (
    broad_ratios_to_halpha,
    doublet_ratios,
    gas_reddening,
    line_ratios_to_hbeta,
    strong_line_ratios,
)
from data_pipeline.simulation.survey import draw_targets, load_tiers

INSTRUMENTS = (PRISM, *GRATINGS, "reference")


def test_the_first_list_never_changes_and_the_second_adds_to_it():
    first, second = load_lines(), load_lines("second")
    content = [
        first.names,
        first.wavelength.tolist(),
        first.partner,
        first.ratio.tolist(),
        first.case_b.tolist(),
    ]
    digest = hashlib.sha256(
        repr(content).encode()
    ).hexdigest()  # models count its lines, populations draw them
    assert digest == "bc23536f0687b341e4ff4b17c5eb0637a7a69a30ac43217a9e7445bb8ee48327"
    assert second.names[: len(first)] == first.names  # places of the first hold in arrays of the second
    assert {"NIV]_1486", "NIII]_1750", "NV_1239", "[NeV]_3427"} <= set(second.names) - set(first.names)
    assert np.all(np.diff(second.wavelength[len(first) :]) > 0) and set(second.partner) <= {"", *second.names}
    balmer = [second.case_b[second.index(name)] for name in ("H8_3890", "H9_3836", "H10_3799")]
    assert np.all(np.diff(balmer) < 0)
    # the Rydberg formula: 1 / wavelength = R (1/n^2 - 1/m^2), in vacuum
    for name, n, m in (("H9_3836", 2, 9), ("H10_3799", 2, 10), ("Brdelta", 4, 8)):
        wavelength = 1e4 / (109677.581 * (1 / n**2 - 1 / m**2))
        assert second.wavelength[second.index(name)] == pytest.approx(wavelength, rel=2e-5)
    with pytest.raises(KeyError, match=r"third.*known: first, second"):
        load_lines("third")
    assert list_of(67).names == first.names and list_of(93).names == second.names
    with pytest.raises(ValueError, match="no list has 5 lines; the shipped ones have 67, 93"):
        list_of(5)


def instrument(name):
    return reference_instrument() if name == "reference" else load_instrument(name)


def widths(pixels):
    return (pixels.bounds[1] - pixels.bounds[0]) * 1e4  # Angstrom


@given(
    name=st.sampled_from(INSTRUMENTS),
    place=st.floats(0.05, 0.95),
    offset=st.floats(-0.5, 0.5),
    velocity=st.floats(0.0, 2000.0),
    scale=st.floats(0.8, 1.4),
)
def test_flux_is_conserved_at_any_position_within_a_pixel(name, place, offset, velocity, scale):
    pixels = instrument(name)
    pixel = int(place * pixels.wavelength.size)
    low, high = pixels.bounds[:, pixel]
    centre = 0.5 * (low + high) + offset * (high - low)
    sigma = np.hypot(pixels.sigma(centre) / scale, velocity / SPEED_OF_LIGHT * centre)
    if centre - 6 * sigma < pixels.bounds[0, 0] or centre + 6 * sigma > pixels.bounds[1, -1]:
        return  # part of the line lies beyond the detector
    line = render_lines(pixels, [centre], [3e-18], np.array([velocity]), scale)
    assert (line[0] * widths(pixels)).sum() == pytest.approx(3e-18, rel=1e-3, abs=0)


@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.parametrize("velocity", [0.0, 300.0])
def test_width_and_centre_are_those_asked_for(name, velocity):
    pixels = instrument(name)
    for centre in np.linspace(*pixels.wavelength[[60, -60]], 7):
        line = render_lines(pixels, [centre], [1.0], np.array([velocity]))[0] * widths(pixels)
        mean = (line * pixels.wavelength).sum()
        variance = (line * (pixels.wavelength - mean) ** 2).sum()
        expected = pixels.sigma(centre) ** 2 + (velocity / SPEED_OF_LIGHT * centre) ** 2
        pixel = np.interp(centre, pixels.wavelength, widths(pixels)) * 1e-4
        assert abs(mean - centre) < 0.03 * pixel
        assert variance == pytest.approx(expected, rel=0.02)


def test_rendering_agrees_with_a_direct_integral_of_the_gaussian():
    prism = load_instrument(PRISM)
    centre, velocity = 2.0037, 900.0
    pixel = widths(prism)[np.searchsorted(prism.bounds[1], centre)] * 1e-4
    sigma = np.sqrt(prism.sigma(centre) ** 2 - pixel**2 / 12 + (velocity / SPEED_OF_LIGHT * centre) ** 2)
    edges = (prism.bounds - centre) / sigma / np.sqrt(2)
    direct = 0.5 * (erf(edges[1]) - erf(edges[0])) / widths(prism)
    line = render_lines(prism, [centre], [1.0], np.array([velocity]))[0]
    np.testing.assert_allclose(line, direct, rtol=1e-6, atol=1e-8 * direct.max())


def test_lines_go_to_their_own_spectra_and_add_up():
    prism = load_instrument(PRISM)
    centre, flux, velocity = np.array([1.5, 1.51, 3.0]), np.array([1.0, 2.0, 4.0]), np.zeros(3)
    both = render_lines(prism, centre, flux, velocity, row=np.array([0, 0, 2]), rows=3)
    alone = [render_lines(prism, centre[[k]], flux[[k]], velocity[[k]])[0] for k in range(3)]
    np.testing.assert_allclose(both[0], alone[0] + alone[1], rtol=1e-12)
    assert not both[1].any()
    np.testing.assert_allclose(both[2], alone[2], rtol=1e-12)


def ratios(n=400, redshift=2.0, reddening=0.0, species_scatter=0.0):
    lines = load_lines()
    draws = Draws(5, np.arange(n))
    return lines, line_ratios_to_hbeta(
        lines, np.full(n, redshift), np.full(n, reddening), draws, species_scatter, {}
    )


@pytest.mark.parametrize("species_scatter", [0.0, 0.42])
@pytest.mark.parametrize("reddening", [0.0, 0.4])
def test_ratios_fixed_by_atomic_physics_are_exact(species_scatter, reddening):
    lines, flux = ratios(reddening=reddening, species_scatter=species_scatter)
    density_sensitive = {"[OII]_3730", "[SII]_6718", "CIII]_1907", "[NI]_5202"}
    checked = 0
    for name, partner, ratio in zip(lines.names, lines.partner, lines.ratio, strict=True):
        if partner and name not in density_sensitive:
            np.testing.assert_allclose(
                flux[:, lines.index(name)] / flux[:, lines.index(partner)], ratio, rtol=1e-12
            )
            checked += 1
    assert checked >= 10


def test_hydrogen_follows_case_b_without_dust_and_reddens_with_it():
    lines, flux = ratios()
    hydrogen = np.isfinite(lines.case_b)
    np.testing.assert_allclose(flux[:, hydrogen], np.tile(lines.case_b[hydrogen], (400, 1)), rtol=1e-12)
    _, dusty = ratios(reddening=0.5)
    halpha, paschen = lines.index("Halpha"), lines.index("Pabeta")
    expected = 2.863 * 10 ** (0.4 * 0.5 * (cardelli(0.486269) - cardelli(0.656463)))
    np.testing.assert_allclose(dusty[:, halpha], expected, rtol=1e-6)
    assert dusty[0, paschen] / flux[0, paschen] > dusty[0, halpha] / flux[0, halpha] > 1.0


def test_density_sensitive_doublets_have_the_tabulated_ratios():
    at_100, at_1000 = doublet_ratios(np.array([2.0])), doublet_ratios(np.array([3.0]))
    for name, low, high in (("[OII]_3730", 1.349, 0.81), ("[SII]_6718", 1.351, 0.91)):
        assert at_100[name][0] == pytest.approx(low, rel=0.04)
        assert at_1000[name][0] == pytest.approx(high, rel=0.04)
    assert doublet_ratios(np.array([2.0]))["CIII]_1907"][0] == pytest.approx(1.5097, rel=0.01)


def test_strong_lines_have_the_asked_correlations_and_trends():
    normal = np.random.default_rng(1).standard_normal((40_000, 4))
    now, then = (strong_line_ratios(np.full(40_000, z), normal) for z in (3.0, 7.0))
    rank = np.corrcoef(now["[OIII]/Hbeta"], now["[NeIII]/Hbeta"])[0, 1]
    assert 0.6 < rank < 0.75
    assert np.corrcoef(now["[OIII]/Hbeta"], now["[OII]/Hbeta"])[0, 1] < -0.3
    assert np.median(now["[OII]/Hbeta"]) - np.median(then["[OII]/Hbeta"]) > 0.4


def test_extra_species_scatter_widens_ratios_by_as_much():
    lines, narrow = ratios(1500)
    _, wide = ratios(1500, species_scatter=0.42)
    for name in ("[OIII]_5008", "[NeIII]_3870", "HeI_10833"):
        column = lines.index(name)
        before, after = (np.log10(flux[:, column]).std() for flux in (narrow, wide))
        assert np.sqrt(after**2 - before**2) == pytest.approx(0.42, rel=0.12)


def test_extra_species_scatter_is_clipped_at_what_gas_can_emit():
    lines, narrow = ratios(3000)
    _, wide = ratios(3000, species_scatter=0.42)
    for name in ("[OIII]_5008", "[NeIII]_3870"):
        own = np.log10(wide[:, lines.index(name)] / narrow[:, lines.index(name)])
        assert np.abs(own).max() == pytest.approx(2.5 * 0.42)  # 3,000 unclipped numbers reach 3.4 sigma


def test_attenuation_curves_have_their_published_values():
    assert cardelli(0.55) == pytest.approx(3.1, rel=0.01)
    assert cardelli(0.44) - cardelli(0.55) == pytest.approx(1.0, abs=0.03)
    assert cardelli(0.2175) == pytest.approx(9.7, abs=0.5)  # the bump
    assert calzetti(0.55) == pytest.approx(4.05, rel=0.02)
    assert calzetti(0.15) == pytest.approx(10.3, rel=0.03)


def test_reddening_is_positive_and_broad_lines_are_hydrogen_and_helium():
    assert (gas_reddening(np.full(100, 3.0), np.linspace(-3, 3, 100), 1.0) > 0).all()
    lines = load_lines()
    broad = broad_ratios_to_halpha(lines, np.zeros(1))[0]
    assert broad[lines.index("Halpha")] == pytest.approx(1.0)
    assert broad[lines.index("[OIII]_5008")] == 0.0


def test_tiers_are_those_of_the_release():
    tiers = load_tiers()
    assert len(tiers.names) == 7
    assert tiers.share.sum() == pytest.approx(1.0)
    assert {tiers.field(k) for k in range(7)} == {"goods-n", "goods-s"}


def test_tied_ratios_lie_on_the_published_diagrams_and_follow_ionisation():
    lines, at, n = load_lines(), load_lines().index, 3000
    flux = line_ratios_to_hbeta(
        lines, np.full(n, 2.3), np.zeros(n), Draws(5, np.arange(n)), 0.0, {}, np.zeros(n, bool)
    )
    halpha = flux[:, at("Halpha")]
    nitrogen, o3 = np.log10(flux[:, at("[NII]_6585")] / halpha), np.log10(flux[:, at("[OIII]_5008")])
    for centre in (-1.5, -1.2, -0.9):
        near = np.abs(nitrogen - centre) < 0.1
        assert near.sum() > 100
        # the locus of z 2-3 of Strom et al. (2017)
        assert np.median(o3[near]) == pytest.approx(1.12 + 0.61 / (centre - 0.22), abs=0.12)
    sulphur = np.log10((flux[:, at("[SII]_6718")] + flux[:, at("[SII]_6733")]) / halpha)
    o32 = o3 - np.log10(flux[:, at("[OII]_3727")] + flux[:, at("[OII]_3730")])
    for ratio, least in ((nitrogen, -0.8), (sulphur, -0.8), (np.log10(flux[:, at("[OI]_6302")]), -0.3)):
        assert np.corrcoef(ratio, o32)[0, 1] < least
    density = flux[:, at("[SII]_6718")] / flux[:, at("[SII]_6733")]
    assert np.all((density > 0.44) & (density < 1.44))


def test_metal_rich_galaxies_lie_on_the_local_sequence():
    lines, at, n = load_lines(), load_lines().index, 2000
    flux = line_ratios_to_hbeta(
        lines, np.full(n, 0.05), np.zeros(n), Draws(6, np.arange(n)), 0.0, {}, np.ones(n, bool)
    )
    nitrogen, o3 = np.log10(flux[:, at("[NII]_6585")] / 2.863), np.log10(flux[:, at("[OIII]_5008")])
    assert np.median(nitrogen) == pytest.approx(-0.35, abs=0.05)
    # below the line of Kauffmann et al. (2003); beyond -0.25 galaxies are composite
    below = o3 < 1.3 + 0.61 / (nitrogen - 0.05)
    assert below[nitrogen < -0.25].mean() > 0.95


SECOND = load_lines("second")
ADDED = np.array([name not in load_lines().names for name in SECOND.names])
EVERY_KIND = replace(POPULATIONS["sky"], broad_line_fraction=0.3, quasar_fraction=0.2, species_scatter=0.2)


@lru_cache(maxsize=1)
def first_ratios(redshift, reddening, n):
    z, dust = np.full(n, redshift), np.full(n, reddening)
    return line_ratios_to_hbeta(SECOND, z, dust, Draws(5, np.arange(n)), 0.0, {})


def further(kind, redshift=7.0, reddening=0.0, n=1000):
    """Narrow fluxes (n, 93) over Hbeta of galaxies of one kind, by name of the line."""
    z, dust, draws = np.full(n, redshift), np.full(n, reddening), Draws(5, np.arange(n))
    flux = first_ratios(redshift, reddening, n).copy()
    add_further_lines(flux, SECOND, np.full(n, KINDS.index(kind)), z, dust, 0.0, draws)
    return dict(zip(SECOND.names, flux.T, strict=True))


@pytest.fixture(scope="module")
def every_kind():
    targets = draw_targets(EVERY_KIND, 3, np.arange(160))
    return [draw_galaxies(EVERY_KIND, 3, targets, lines) for lines in (load_lines(), SECOND)]


def test_the_second_list_changes_nothing_of_the_first(every_kind):
    first, second = every_kind
    for name in ("line_flux", "broad_line_flux", "wing_line_flux", "absorbed_line_flux"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name)[:, ~ADDED])
    for name in ("kind", "redshift", "velocity_sigma", "broad_velocity_sigma", "size"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert np.isfinite(second.line_flux).all() and (second.line_flux >= 0).all()
    shines = second.line_flux[second.line_flux[:, SECOND.index("Hbeta")] > 0]
    hard = [name.startswith(("NV", "[NeV]", "[NeIV]")) for name in SECOND.names]
    assert (shines[:, ADDED & ~np.array(hard)] > 0).all()


def test_added_hydrogen_helium_and_auroral_lines_have_the_ratios_of_atoms():
    flux = further("star-forming")
    for name, ratio in (("H9_3836", 0.0731), ("H10_3799", 0.053), ("Brdelta", 0.0181)):
        assert SECOND.case_b[SECOND.index(name)] == ratio  # Storey & Hummer (1995), as PyNeb has it
        np.testing.assert_allclose(flux[name], ratio, rtol=1e-12)
    # He I of Porter et al. (2012, 2013) by PyNeb at 1e4-1.5e4 K and 1e2 cm-3
    for name, low, high in (("HeI_4027", 0.172, 0.180), ("HeI_5017", 0.211, 0.237)):
        assert low <= (flux[name] / flux["HeI_5878"])[0] <= high
    near_7325 = sum(flux[name] for name in ("[OII]_7321", "[OII]_7322", "[OII]_7332", "[OII]_7333"))
    np.testing.assert_allclose(flux["[OII]_2471"] / near_7325, 0.747, rtol=1e-12)
    dusty = further("star-forming", reddening=0.3)
    # [O II] 3727 over Hbeta is a ratio as observed
    expected = 10 ** (0.4 * 0.3 * (cardelli(0.3727092) - cardelli(0.247103)))
    np.testing.assert_allclose(dusty["[OII]_2471"] / flux["[OII]_2471"], expected, rtol=1e-9)


def test_added_doublets_are_within_their_density_limits_and_follow_one_density():
    flux = further("quasar")
    limits = (
        ("SiIII]_1883", "SiIII]_1892", 0.0, 1.57),
        ("[ArIV]_4713", "[ArIV]_4741", 0.12, 1.43),
        ("[NeIV]_2423", "[NeIV]_2425", 0.667, 7.5),
        ("NIV]_1483", "NIV]_1486", 0.0, 1.49),
        ("NIII]_1749", "NIII]_1750", 0.16, 0.473),
        ("NIII]_1752", "NIII]_1750", 0.57, 1.26),
    )
    sulphur = flux["[SII]_6718"] / flux["[SII]_6733"]
    for one, other, low, high in limits:
        ratio = flux[one] / flux[other]
        assert low < ratio.min() and ratio.max() < high
        if one[0] != "N":  # dense gas of its own in nitrogen-rich ones
            sign = -1.0 if "NeIV" in one else 1.0
            assert (
                sign * np.corrcoef(np.argsort(np.argsort(ratio)), np.argsort(np.argsort(sulphur)))[0, 1]
                > 0.99
            )
    for name, partner in (("NV_1239", "NV_1243"), ("[NeV]_3427", "[NeV]_3347"), ("[CI]_9853", "[CI]_9827")):
        k = SECOND.index(name)
        assert SECOND.partner[k] == partner
        np.testing.assert_allclose(flux[name] / flux[partner], SECOND.ratio[k], rtol=1e-12)
    # branching ratios of the common upper levels, PyNeb
    np.testing.assert_allclose(flux["NIII]_1754"] / flux["NIII]_1749"], 1.0648, rtol=1e-9)
    np.testing.assert_allclose(flux["NIII]_1752"] / flux["NIII]_1747"], 5.951, rtol=1e-9)


def test_lines_of_hard_spectra_are_of_nuclei_alone():
    hard = ("NV_1239", "NV_1243", "[NeIV]_2423", "[NeIV]_2425", "[NeV]_3347", "[NeV]_3427")
    for kind in ("star-forming", "quiescent", "beyond-the-grid"):
        flux = further(kind)
        assert not any(flux[name].any() for name in hard)
    quasar, near, far = further("quasar"), further("broad-line", 1.0), further("broad-line", 7.0)
    for name in hard:
        assert (quasar[name] > 0).all()
        assert (near[name] > 0).mean() == pytest.approx(0.9, abs=0.04)
        assert (far[name] > 0).mean() == pytest.approx(0.15, abs=0.04)


def test_a_minority_is_nitrogen_rich_at_high_redshift():
    def rich(kind, redshift):
        flux = further(kind, redshift)
        nitrogen = sum(flux[name] for name in SECOND.names if name.startswith("NIII]"))
        carbon = flux["CIII]_1907"] + flux["CIII]_1909"]
        usual = np.median(np.log10(nitrogen / carbon))
        return (nitrogen > 0.4 * carbon).mean(), usual

    shares = {z: rich("star-forming", z) for z in (2.0, 6.0, 9.0)}
    assert shares[2.0][0] < 0.01 < 0.02 < shares[6.0][0] < 0.06 < shares[9.0][0] < 0.12
    assert rich("broad-line", 6.0)[0] > 0.1
    assert shares[6.0][1] == pytest.approx(-1.25, abs=0.05)


def test_broad_permitted_lines_are_among_the_added(every_kind):
    second = every_kind[1]
    quasar, forming = (second.kind == KINDS.index(kind) for kind in ("quasar", "star-forming"))
    broad = second.broad_line_flux[:, [SECOND.index(name) for name in ("NV_1239", "H9_3836", "HeI_4027")]]
    assert (broad[quasar] > 0).all() and not broad[forming].any()
    assert not second.broad_line_flux[:, SECOND.index("[NeV]_3427")].any()
