"""Simulated galaxies as arrays: truth against observation, determinism, physics of the continua."""

from dataclasses import fields, replace

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument, reference_instrument
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import (
    KINDS,
    POPULATIONS,
    Nuisances,
    Population,
    SimulationConfig,
    Spectra,
    simulate_batch,
    simulate_batches,
)
from data_pipeline.simulation.catalogue import catalogue_rows
from data_pipeline.simulation.continua import (
    INTRINSIC_GRID,
    TEMPLATES,
    Continua,
    intergalactic_transmission,
    intrinsic_continua,
    templates_on,
)
from data_pipeline.simulation.draws import Draws
from data_pipeline.simulation.noise import draw_conditions
from data_pipeline.simulation.survey import draw_targets

CLEAN = Nuisances(
    noise_scale=0.0,
    zero_point_shift=0.0,
    bad_pixel_fraction=0.0,
    edge_pixels=(0, 0),
    gap_fraction=0.0,
    missing_grating_fraction=0.0,
)
EVERY_KIND = Population(
    broad_line_fraction=0.2, quiescent_fraction=0.15, post_starburst_fraction=0.15, noise_fraction=0.05
)


@pytest.fixture(scope="module")
def clean():
    return simulate_batch(np.arange(64), 11, SimulationConfig(EVERY_KIND, CLEAN))


@pytest.fixture(scope="module")
def observed():
    return simulate_batch(np.arange(192), 12)


def test_shapes_lines_and_kinds(observed):
    assert observed.prism_flux.shape == observed.noise_free_prism.shape == (192, 706)
    assert observed.noise_free.shape == observed.continuum.shape == (192, UnifiedGrid().size)
    assert observed.line_flux.shape == (192, len(observed.line_names))
    rest = load_lines().wavelength
    assert ((rest > 0.1) & (rest < 2.2)).sum() >= 40
    assert set(observed.kind) <= set(KINDS)
    assert set(observed.gratings) == set(GRATINGS)
    for arm, spectra in observed.gratings.items():
        assert spectra.flux.shape == (192, observed.grating_wavelength[arm].size)


def test_unmasked_pixels_are_finite_and_errors_positive(observed):
    prism = Spectra(observed.prism_flux, observed.prism_error, observed.prism_mask)
    for spectra in (prism, *observed.gratings.values()):
        good = ~spectra.mask
        assert np.isfinite(spectra.flux[good]).all()
        assert (spectra.error[good] > 0).all()
        assert np.isnan(spectra.error[spectra.mask]).all()


def test_degraded_truth_is_the_noise_free_prism(clean):
    reference, prism = reference_instrument(), load_instrument(PRISM)
    kinds = np.array(clean.kind)
    for row in np.concatenate([np.flatnonzero(kinds == kind)[:2] for kind in KINDS if kind != "noise"]):
        at_scale = load_instrument(PRISM, scale=float(clean.resolution_scale[row]))
        operator = at_scale.line_spread_operator(reference.bounds, seen_by=reference)
        degraded = operator.apply(clean.noise_free[row])
        expected = clean.noise_free_prism[row]
        continuum = operator.apply(clean.continuum[row])
        inside = operator.interior & (prism.wavelength > 0.75)
        difference = np.abs(degraded - expected)[inside]
        # Within 1 % of the continuum, or of the line's height where the line is the brighter.
        allowed = 0.01 * np.maximum(continuum, expected)[inside] + 1e-4 * expected[inside].max()
        assert np.mean(difference <= allowed) > 0.98
        assert difference.max() < 0.03 * expected[inside].max()
        step = np.diff(prism.bounds, axis=0)[0][inside]
        assert (degraded[inside] * step).sum() == pytest.approx(
            (expected[inside] * step).sum(), rel=2e-3, abs=0
        )


def test_line_fluxes_are_in_the_noise_free_spectrum(clean):
    step = np.diff(UnifiedGrid().bounds, axis=0)[0] * 1e4
    centre = load_lines().wavelength * (1 + clean.redshift[:, None])
    checked = 0
    for row in np.flatnonzero(clean.broad_velocity_sigma == 0):
        flux = clean.line_flux[row]
        inside = (centre[row] > 0.72) & (centre[row] < 5.25)
        cut = ~inside & (centre[row] > 0.68) & (centre[row] < 5.35)
        if not flux[inside].sum() > 0 or flux[cut].sum() > 1e-4 * flux[inside].sum():
            continue
        total = ((clean.noise_free[row] - clean.continuum[row]) * step).sum()
        assert total == pytest.approx(flux[inside].sum(), rel=1e-3, abs=0)
        checked += 1
    assert checked >= 5


def test_gratings_carry_the_flux_scales_and_the_truth_does_not(clean):
    lines = load_lines()
    halpha = lines.index("Halpha")
    recovered = []
    for row in range(len(clean)):
        centre = lines.wavelength[halpha] * (1 + clean.redshift[row])
        arm = "nirspec-g235m"
        if not (1.75 < centre < 3.0 and clean.kind[row] == "star-forming"):
            continue
        x = clean.grating_wavelength[arm]
        window = np.abs(x / centre - 1) < 0.02
        step = np.diff(load_instrument(arm).bounds, axis=0)[0][window] * 1e4
        continuum = np.interp(x[window], clean.wavelength, clean.continuum[row])
        factor = clean.arm_scale[row, 1] / _flux_ratio(clean, row, centre)
        flux = ((clean.gratings[arm].flux[row][window] / factor - continuum) * step).sum()
        members = np.abs(lines.wavelength / lines.wavelength[halpha] - 1) < 0.02
        recovered.append(flux / clean.line_flux[row, members].sum())
    assert len(recovered) >= 5
    assert recovered == pytest.approx(np.ones(len(recovered)), abs=0.02)


def _flux_ratio(batch, row, wavelength):
    x = 2 * np.log(wavelength / 0.7) / np.log(5.3 / 0.7) - 1
    return np.exp(batch.flux_ratio[row] @ [1.0, x, x**2])


def test_zero_point_shift_moves_the_prism_by_that_many_pixels():
    nuisances = replace(CLEAN, zero_point_shift=0.3)
    still, moved = (
        simulate_batch(np.arange(24), 5, SimulationConfig(nuisances=n)) for n in (CLEAN, nuisances)
    )
    for row in range(24):
        if not still.line_flux[row].any():
            continue
        # The centroid of a group of lines moves by the shift; the continuum beneath is taken off.
        peak = int(np.argmax(still.noise_free_prism[row][40:-40])) + 40
        window = slice(peak - 6, peak + 7)
        a, b = still.noise_free_prism[row], moved.noise_free_prism[row]
        slope = np.gradient(a)[window]
        expected = moved.zero_point_shift[row]
        fitted = -((b - a)[window] @ slope) / (slope @ slope)
        assert fitted == pytest.approx(expected, abs=0.08 + 0.1 * abs(expected))


def test_noise_of_the_observed_prism_follows_the_quoted_errors(observed):
    pull = (observed.prism_flux - observed.noise_free_prism) / observed.prism_error
    pull = (pull * observed.error_scale[:, None])[:, 20:-20]
    pull = pull[np.isfinite(pull) & (np.abs(pull) < 4.5)]
    assert pull.std() == pytest.approx(np.sqrt(2 / 3), rel=0.03)
    assert abs(np.median(pull)) < 0.02


def test_noise_scale_zero_gives_the_truth_with_quoted_errors(clean):
    good = ~clean.prism_mask
    np.testing.assert_allclose(clean.prism_flux[good], clean.noise_free_prism[good], rtol=1e-12, atol=0)
    usual = simulate_batch(np.arange(64), 11, SimulationConfig(EVERY_KIND))
    both = good & ~usual.prism_mask
    np.testing.assert_allclose(clean.prism_error[both], usual.prism_error[both], rtol=0.05)


def assert_same(one, other, rows):
    for item in fields(one):
        a, b = getattr(one, item.name), getattr(other, item.name)
        if item.name == "gratings":
            for arm in a:
                np.testing.assert_allclose(a[arm].flux[rows], b[arm].flux, rtol=1e-10, atol=1e-28)
        elif isinstance(a, np.ndarray) and a.ndim and a.shape[0] == len(one) and a.dtype != bool:
            np.testing.assert_allclose(a[rows], b, rtol=1e-10, atol=1e-28, err_msg=item.name)
        elif item.name == "released":
            for mine, theirs in zip(a[rows], b, strict=True):
                for x, y in zip(mine, theirs, strict=True):
                    np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-28)
        elif isinstance(a, tuple) and len(a) == len(one):
            assert a[rows] == b


def test_an_observation_depends_on_seed_and_number_alone(observed):
    start = 0
    for part in simulate_batches(20, 12, batch_size=7):
        assert_same(observed, part, slice(start, start + len(part)))
        start += len(part)
    assert start == 20
    assert_same(observed, simulate_batch(np.array([150]), 12), slice(150, 151))
    other = simulate_batch(np.arange(20), 13)
    assert not np.isclose(other.redshift, observed.redshift[:20]).any()


def test_without_gratings_the_rest_is_the_same(observed):
    alone = simulate_batch(np.arange(5), 12, gratings=False)
    assert alone.gratings == {}
    np.testing.assert_allclose(alone.noise_free, observed.noise_free[:5], rtol=1e-10)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="expected n >= 0 and batch_size >= 1, got n=4, batch_size=0"):
        next(simulate_batches(4, 1, batch_size=0))
    with pytest.raises(ValueError, match=r"seed: expected a whole number from 0 to 2\*\*63 - 1, got -1"):
        simulate_batch(np.arange(2), -1)
    with pytest.raises(ValueError, match="got 9223372036854775808"):
        simulate_batch(np.arange(2), 2**63)
    assert len(simulate_batch(np.arange(1), 2**63 - 1, gratings=False)) == 1


def prism_residuals(seed, config):
    batch = simulate_batch(np.arange(12), seed, config, gratings=False)
    return (batch.prism_flux - batch.noise_free_prism) / batch.prism_error


def test_populations_share_neither_noise_nor_galaxies_at_one_seed():
    survey, wide = prism_residuals(3, SimulationConfig()), prism_residuals(3, SimulationConfig("wide"))
    both = np.isfinite(survey) & np.isfinite(wide)
    assert abs(np.corrcoef(survey[both], wide[both])[0, 1]) < 0.05  # 8,000 pixels; 1.0 if they were shared
    targets = [draw_targets(population, 3, np.arange(50)) for population in POPULATIONS.values()]
    assert abs(targets[0].ra - targets[1].ra).min() > 0


def test_nuisances_leave_the_galaxies_alone():
    clean = simulate_batch(np.arange(12), 3, SimulationConfig(nuisances=Nuisances(noise_scale=0.0)))
    noisy = simulate_batch(np.arange(12), 3)
    np.testing.assert_array_equal(clean.noise_free, noisy.noise_free)
    np.testing.assert_array_equal(clean.line_flux, noisy.line_flux)


def test_pure_noise_has_no_redshift_and_no_flux():
    population = Population(
        noise_fraction=1.0, broad_line_fraction=0.0, quiescent_fraction=0.0, post_starburst_fraction=0.0
    )
    batch = simulate_batch(np.arange(6), 2, SimulationConfig(population))
    assert set(batch.kind) == {"noise"}
    assert np.isnan(batch.redshift).all()
    assert not batch.line_flux.any() and not batch.broad_line_flux.any()
    assert not batch.noise_free.any() and not batch.continuum.any() and not batch.noise_free_prism.any()
    for spectra in batch.gratings.values():
        assert np.isfinite(spectra.flux[~spectra.mask]).all()
    assert np.isfinite(batch.prism_flux[~batch.prism_mask]).all()
    rows = catalogue_rows(batch, 2, population)
    assert (rows["z_Spec"] == -1).all() and (rows["z_Spec_flag"] == "E").all()


def test_reobserved_galaxies_are_the_same_galaxy_in_another_tier():
    index = np.arange(3000)
    targets = draw_targets(Population(), 4, index)
    again = np.flatnonzero(targets.galaxy != targets.index)
    assert 0.015 < again.size / index.size < 0.05
    first = targets.galaxy[again]
    assert (targets.tier[again] != targets.tier[first]).all()
    offset = np.hypot(
        (targets.ra[again] - targets.ra[first]) * np.cos(np.radians(targets.dec[first])),
        targets.dec[again] - targets.dec[first],
    )
    assert (offset * 3600 < 0.05).all()
    pair = [int(first[0]), int(again[0])]
    batch = simulate_batch(np.array(pair), 4)
    np.testing.assert_allclose(batch.line_flux[0], batch.line_flux[1], rtol=1e-12)
    assert batch.tier[0] != batch.tier[1]
    assert not np.allclose(batch.prism_flux[0], batch.prism_flux[1], equal_nan=True, rtol=1e-3, atol=0)


def test_ids_repeat_across_tiers_only_for_different_galaxies():
    targets = draw_targets(Population(), 4, np.arange(3000))
    keys = set(zip(targets.tier, targets.nirspec_id, strict=True))
    assert len(keys) == 3000
    numbers, count = np.unique(targets.nirspec_id, return_counts=True)
    assert 0.02 < (count == 2).sum() / 3000 < 0.08
    for number in numbers[count == 2]:
        rows = np.flatnonzero(targets.nirspec_id == number)
        assert len(set(targets.galaxy[rows])) == 2
        assert len(set(targets.tier[rows])) == 2


def test_equivalent_widths_rise_with_redshift_as_measured():
    share = []
    for low, high in ((3.0, 4.1), (5.7, 9.5)):
        population = Population(
            flat_redshift_fraction=1.0,
            redshift_range=(low, high),
            broad_line_fraction=0.0,
            quiescent_fraction=0.0,
            post_starburst_fraction=0.0,
            noise_fraction=0.0,
            reobserved_fraction=0.0,
        )
        batch = simulate_batch(np.arange(250), 6, SimulationConfig(population), gratings=False)
        names = list(batch.line_names)
        flux = batch.line_flux[:, [names.index(n) for n in ("[OIII]_5008", "[OIII]_4960", "Hbeta")]].sum(
            axis=1
        )
        level = [
            np.interp(0.505 * (1 + z), batch.wavelength, row)
            for z, row in zip(batch.redshift, batch.continuum, strict=True)
        ]
        seen = batch.redshift < 9.4
        share.append(np.mean((flux / level / (1 + batch.redshift))[seen] > 750))
    assert share == pytest.approx([0.23, 0.61], abs=0.09)  # Boyett et al. 2024; sampling error 0.03


def test_lyman_break_and_forest():
    grid = INTRINSIC_GRID
    through = intergalactic_transmission(
        grid.bounds, np.array([2.0, 6.0, 10.0]), np.array([18.0, 18.0, 22.5])
    )
    x = grid.wavelength
    assert through[0][x > 0.6].min() > 0.99  # forest of a z = 2 galaxy lies outside
    assert through[1][(x > 0.6) & (x < 0.0911 * 7)].max(initial=0.0) < 1e-12
    forest = through[1][(x > 0.75) & (x < 0.84)]
    assert 0.0 < forest.mean() < 0.1
    assert through[1][x > 0.1217 * 7 * 1.01].min() > 0.999
    wing = np.interp(0.121567 * 11 * 1.005, x, through[2])
    assert 0.0 < wing < 0.2  # 6 Angstrom from the centre of a 10^22.5 damped line


def test_templates_keep_their_integral_and_their_place():
    edges = np.append(INTRINSIC_GRID.bounds[0], INTRINSIC_GRID.bounds[1, -1])
    fine = UnifiedGrid(INTRINSIC_GRID.start, INTRINSIC_GRID.stop, 6000.0)
    fine_edges = np.append(fine.bounds[0], fine.bounds[1, -1])
    for z in (0.3, 2.717, 9.1):
        coarse = templates_on(edges, 3000.0, z)
        finer = templates_on(fine_edges, 6000.0, z)
        total = (coarse * np.diff(edges)).sum(axis=1)
        assert (finer * np.diff(fine_edges)).sum(axis=1) == pytest.approx(total, rel=2e-3)
    old = templates_on(edges, 3000.0, 2.0)[TEMPLATES.index("old")]
    rest = INTRINSIC_GRID.wavelength / 3.0
    f_nu = old * rest**2
    red = f_nu[(rest > 0.405) & (rest < 0.425)].mean()
    blue = f_nu[(rest > 0.375) & (rest < 0.395)].mean()
    assert 1.6 < red / blue < 2.4  # D4000 of an old population
    with pytest.raises(ValueError, match=r"leave 0\.034-6\.0 um"):
        templates_on(edges, 3000.0, 20.0)


def test_continuum_level_and_dust():
    weights = np.zeros((2, len(TEMPLATES)))
    weights[:, 0] = 1.0
    made = Continua(
        level=np.array([2e-20, 2e-20]),
        weights=weights,
        reddening=np.array([0.0, 0.3]),
        tilt=np.zeros(2),
        column=np.full(2, 18.0),
    )
    spectra = intrinsic_continua(made, np.array([3.0, 3.0]))
    rest = INTRINSIC_GRID.wavelength / 4.0
    at = [np.interp(0.5045, rest, row) for row in spectra]
    assert at == pytest.approx([2e-20, 2e-20], rel=0.02, abs=0)
    blue = [np.interp(0.2, rest, row) for row in spectra]
    expected = 10 ** (-0.4 * 0.3 * (8.9 - 4.58))  # Calzetti k at 0.2 and 0.505 um
    assert blue[1] / blue[0] == pytest.approx(expected, rel=0.05)


def test_draws_do_not_depend_on_company():
    together = Draws(1, [3, 4, 5]).normal("a", 4)
    np.testing.assert_array_equal(together[1], Draws(1, [4]).normal("a", 4)[0])
    assert not np.allclose(together, Draws(1, [3, 4, 5]).normal("b", 4))
    many = Draws(1, np.arange(4000)).uniform("c")
    assert abs(many.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(many[1:], many[:-1])[0, 1]) < 0.05


def test_conditions_depend_on_the_observation_not_on_the_galaxy():
    a = draw_conditions(Nuisances(), Draws(1, [1]), np.zeros(1), np.zeros(1, bool))
    b = draw_conditions(Nuisances(), Draws(1, [2]), np.zeros(1), np.zeros(1, bool))
    assert not np.isclose(a.arm_scale, b.arm_scale).any()
