"""The prism together with its gratings: likelihood, redshift, scales, zero points."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.gratings import cases, changed, joined, narrow_galaxies, prior_of_truth
from data_pipeline.instrument import GRATINGS, SPEED_OF_LIGHT
from data_pipeline.lines import load_lines
from data_pipeline.simulation import simulate_batch
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta
from enhancement_sample import (
    BINS,
    IDENTITY,
    LINE_FLUX,
    REDSHIFT,
    BroadStandIn,
    JointStandIn,
    StandIn,
    grating_spectrum,
    prism_spectrum,
)
from kspecsr.gratings import joint
from kspecsr.gratings.arm import Arm, with_broad
from kspecsr.gratings.fit import fit_arms
from kspecsr.gratings.joint_fit import disagreements, unexplained_line
from kspecsr.gratings.priors import ArmPriors, LinePrior, NoJointLinesError, free_lines
from kspecsr.gratings.problem import JointProblem
from kspecsr.gratings.redshift import scan
from kspecsr.results.arms import Measured, velocity_between
from kspecsr.results.broad import BroadLines
from kspecsr.results.files import read_header
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.many import as_table
from kspecsr.results.result import Result
from kspecsr.results.table import row_of
from kspecsr.super_resolver import SuperResolver

PRIORS = ArmPriors()
G235M, G395M = GRATINGS[1:]


@cache
def galaxies():
    return simulate_batch(np.arange(40), 77)


def fitted(names, count, priors=PRIORS):
    """Cases with their priors, densities and fits."""
    batch, rng = galaxies(), np.random.default_rng(3)
    for case in cases(batch, narrow_galaxies(batch)[:count], names, rng, priors.shift):
        prior, density = prior_of_truth(case, batch, rng)
        yield case, prior, density, joined(case, prior, density, priors)


@cache
def both():
    return list(fitted((G235M, G395M), 20))


def bright_case():
    """A case whose lines both arms see well."""
    return max(
        both(), key=lambda one: np.min([1.0 / arm.shift.error / arm.scale.error for arm in one[3].arms])
    )


def test_errors_are_what_they_say():
    pulls = {"z": [], "flux": [], "scale": [], "shift": []}
    for case, _, _, fit in both():
        sigma = np.sqrt(np.diagonal(fit.covariance))
        pulls["z"].append((fit.redshift.value - case.redshift) / fit.redshift.error)
        pulls["flux"] += list(((fit.flux - case.flux) / sigma)[fit.seen])
        for name, truth in (("scale", case.scale), ("shift", case.shift)):
            measured = [getattr(arm, name) for arm in fit.arms]
            pulls[name] += [(m.value - t) / m.error for m, t in zip(measured, truth, strict=True)]
    widths = {name: np.std(values) for name, values in pulls.items()}
    assert widths["flux"] == pytest.approx(1.0, abs=0.1)
    for name in ("z", "scale", "shift"):  # as well as some dozen can tell
        assert widths[name] == pytest.approx(1.0, abs=0.35), name
        assert np.mean(pulls[name]) == pytest.approx(0.0, abs=0.6), name


def test_errors_are_never_larger_than_the_prism_s():
    for _, prior, _, fit in both():
        before = np.sqrt(np.diagonal(prior.covariance))[prior.known] * 1e-20
        after = np.sqrt(np.diagonal(fit.covariance))[prior.known]
        assert np.all(after < 1.001 * before)
        assert np.all(after[fit.seen[prior.known]] < before[fit.seen[prior.known]])


def test_a_line_that_no_arm_sees_keeps_the_prism_s_flux():
    for _, prior, _, fit in both():
        blind = prior.known & ~fit.seen  # the prior of these tests has no correlations
        assert fit.flux[blind] / 1e-20 == pytest.approx(prior.mean[blind], rel=1e-6)


def test_redshifts_are_those_of_gratings():
    errors = [fit.redshift.error / (1.0 + case.redshift) * SPEED_OF_LIGHT for case, _, _, fit in both()]
    assert np.median(errors) < 25.0  # km/s; the prism alone has 150


def test_bright_lines_come_back_and_nothing_disagrees():
    case, _, _, fit = bright_case()
    sigma = np.sqrt(np.diagonal(fit.covariance))
    strong = fit.seen & (case.flux > 10.0 * sigma)
    assert strong.any()
    assert fit.flux[strong] / case.flux[strong] == pytest.approx(1.0, abs=0.25)
    assert abs(fit.redshift.value - case.redshift) < 4.0 * fit.redshift.error
    assert not list(disagreements(fit, PRIORS))


@pytest.mark.parametrize("velocity", [300.0, -300.0])
def test_a_shifted_arm_is_found_and_not_averaged_in(velocity):
    batch, rng = galaxies(), np.random.default_rng(3)
    rows = narrow_galaxies(batch)
    case = max(
        cases(batch, rows, GRATINGS, rng, 0.0),
        key=lambda c: len(c.arms) * np.log(batch.line_flux[c.row].max()),
    )
    prior, density = prior_of_truth(case, batch, rng)
    number = len(case.arms) - 1
    fit = joined(changed(case, number, velocity), prior, density, PRIORS)
    name = fit.arms[number].name
    assert fit.arms[number].shift.value == pytest.approx(velocity, abs=60.0)
    away = (fit.redshift.value - case.redshift) / (1.0 + case.redshift) * SPEED_OF_LIGHT
    assert abs(away) < 60.0
    assert any(f"zero point of {name}" in text for text in disagreements(fit, PRIORS))


def test_a_scaled_arm_is_found_and_not_averaged_in():
    case, prior, density, before = bright_case()
    fit = joined(changed(case, 1, factor=2.0), prior, density, PRIORS)
    expected = case.scale[1] / 2.0
    assert fit.arms[1].scale.value == pytest.approx(expected, rel=0.25)
    assert fit.arms[0].scale.value == pytest.approx(before.arms[0].scale.value, rel=0.1)
    assert any("flux scale of G395M: prism over grating" in text for text in disagreements(fit, PRIORS))


def test_an_arm_whose_lines_have_another_shape_is_named():
    fit = bright_case()[3]
    poor = replace(fit, arms=(replace(fit.arms[0], chi_square=11.0), *fit.arms[1:]))
    assert any("G235M is badly fitted: chi-square 11.0" in text for text in disagreements(poor, PRIORS))


def test_a_bright_line_that_nothing_explains_is_named():
    fit = bright_case()[3]
    assert all(unexplained_line(arm, fit.redshift.value) is None for arm in fit.arms)
    wave = np.linspace(2.9, 5.2, 1300)
    bump = 15e-21 * np.exp(-0.5 * ((wave - 4.1) / 0.0027) ** 2)
    nothing, good = np.zeros(wave.size), np.ones(wave.size, bool)
    spectrum = ObservedSpectrum(wave, bump, np.full(wave.size, 1e-21), ~good, SpectrumMeta(disperser="G395M"))
    arm = replace(fit.arms[1], spectrum=spectrum, lines=nothing, continuum=nothing, good=good, noise=1.0)
    halpha = load_lines().wavelength[load_lines().index("Halpha")]
    assert unexplained_line(arm, 4.1 / halpha - 1.0) is None
    place, signal = unexplained_line(arm, 1.35)  # no line of the list lies at 1.745 um
    assert place == pytest.approx(4.1, abs=2e-3) and signal > 10.0
    named = replace(fit, arms=(arm,), redshift=Measured(1.35, 1e-4), peak=None)
    assert any("G395M has an emission line at 4.1" in text for text in disagreements(named, PRIORS))


def test_a_redshift_that_the_gratings_refute_gives_way_to_theirs_and_is_named():
    case, prior, _, _ = bright_case()
    wrong = case.redshift + 3e-3 * (1.0 + case.redshift)

    def density(z):
        return np.exp(-0.5 * ((z - wrong) / (3e-4 * (1.0 + case.redshift))) ** 2)

    fit = joined(case, prior, density, PRIORS)
    assert abs(fit.redshift.value - case.redshift) < 4.0 * fit.redshift.error
    assert any(f"redshift: prism {wrong:.5f}"[:24] in text for text in disagreements(fit, PRIORS))


def test_bright_lines_decide_between_two_modes():
    case, prior, density, _ = bright_case()
    elsewhere = replace(prior, redshift=prior.redshift + 0.31)

    def twin(z):
        return density(z) + density(z - 0.31)

    arms = [Arm(one) for one in case.arms]
    right, wrong = (scan(arms, one, twin, 0.5, PRIORS).log_evidence for one in (prior, elsewhere))
    assert right > wrong + 10.0


def test_a_wild_pixel_is_no_line():
    case, *_ = bright_case()
    spectrum = case.arms[1]
    arm = Arm(spectrum)
    pixel = np.flatnonzero(~spectrum.mask)[200]
    flux = spectrum.flux.copy()
    flux[pixel] += 40.0 * spectrum.error[pixel]
    assert arm.good[pixel] and not Arm(spectrum.replace(flux=flux)).good[pixel]


@pytest.mark.parametrize("factor", [1.0, 1.6])
def test_noise_is_measured(factor):
    rng, n = np.random.default_rng(0), 1300
    wavelength = 2.9 + 0.0018 * np.arange(n)
    white = rng.normal(size=n + 1)
    noise = (white[1:] + 0.8 * white[:-1]) / np.hypot(1.0, 0.8)
    meta = SpectrumMeta(disperser="G395M")
    sigma = np.full(n, 1e-20)
    spectrum = ObservedSpectrum(
        wavelength, 3e-20 * wavelength + factor * sigma * noise, sigma, np.zeros(n, bool), meta
    )
    arm = Arm(spectrum)
    assert arm.noise == pytest.approx(factor, rel=0.1)
    assert arm.correlation == pytest.approx(0.8 / 1.64, abs=0.12)


def test_other_dispersers_are_refused_by_name():
    meta = SpectrumMeta(disperser="G395H", path="x.fits")
    wave = np.linspace(3.0, 5.0, 50)
    spectrum = ObservedSpectrum(wave, wave, wave, np.zeros(50, bool), meta)
    with pytest.raises(SpectrumError, match=r"x.fits: is a G395H; expected a medium grating, one of G140M"):
        Arm(spectrum)


def measured(correlation):
    lines = load_lines()
    flux, error = np.full((2, len(lines)), np.nan)
    rows = [lines.index(name) for name in ("Halpha", "[NII]_6585", "[NII]_6550", "[OIII]_4960")]
    flux[rows], error[rows] = (10e-20, 3e-20, 1e-20, 2e-20), (1e-20, 0.6e-20, 0.2e-20, 0.2e-20)
    nothing = np.full(len(lines), np.nan)
    return LineMeasurements(
        flux, error, nothing, nothing, nothing, nothing, np.isfinite(flux), nothing, correlation
    ), rows


def test_a_prior_comes_from_joint_errors():
    lines, rows = measured(None)
    correlation = np.full((len(load_lines()),) * 2, np.nan)
    correlation[np.ix_(rows, rows)] = np.eye(4)
    correlation[rows[0], rows[1]] = correlation[rows[1], rows[0]] = -0.5
    correlation[rows[1], rows[2]] = correlation[rows[2], rows[1]] = 1.0
    prior = LinePrior.of(replace(lines, correlation=correlation), 2.0)
    free = free_lines()
    halpha, nii, oiii = (free.column[np.flatnonzero(free.line == rows[i])[0]] for i in (0, 1, 3))
    assert prior.known.sum() == 3
    assert prior.mean[[halpha, nii]] == pytest.approx([10.0, 3.0])
    assert prior.covariance[halpha, nii] == pytest.approx(-0.3, rel=1e-3)
    # the weaker line tells the free flux where the stronger one is not reported
    assert prior.mean[oiii] == pytest.approx(2.0 * 2.984, rel=1e-3)


def test_broad_components_are_drawn_beside_narrow_ones():
    lines, rows = measured(None)
    correlation = np.full((len(load_lines()),) * 2, np.nan)
    correlation[np.ix_(rows, rows)] = np.eye(4)
    part, nothing = np.where(np.arange(len(load_lines())) == rows[0], 6e-20, 0.0), np.zeros(len(load_lines()))
    broad = BroadLines(0.9, 2355.0, 100.0, nothing, nothing, part, part)
    prior = LinePrior.of(replace(lines, correlation=correlation, broad=broad), 4.5)
    arm = Arm(grating_spectrum("nirspec-g395m"))
    free = free_lines()
    (member,) = np.flatnonzero(free.line == rows[0])
    assert prior.broad_share[free.column[member]] == pytest.approx(0.6)
    members, part, widths = with_broad(np.array([member]), 70.0, prior)
    profile = 0.0
    for one, share, velocity in zip(members, part, widths, strict=True):
        drawn = arm.profiles(4.5, velocity, 0.0, np.array([one]))
        profile = profile + share * arm.drawn(np.zeros(1, int), drawn.index, drawn.density, 1)[0]
    width = np.diff(arm.instrument.bounds, axis=0)[0] * 1e4
    offset = arm.instrument.wavelength / (load_lines().wavelength[rows[0]] * 5.5) - 1.0
    assert profile @ width == pytest.approx(1.0, abs=1e-3)
    inside = np.abs(offset) * SPEED_OF_LIGHT < 600.0
    assert (profile * width)[inside].sum() == pytest.approx(0.4 + 0.6 * 0.45, abs=0.05)
    unlikely = replace(broad, probability=0.1)
    again = LinePrior.of(replace(lines, correlation=correlation, broad=unlikely), 4.5)
    assert again.broad_share is None


def broad_fit(broad, error=1e-21):
    """A result of the stand-in that doubts broad lines, with a grating that resolves Halpha."""
    resolver = SuperResolver(BroadStandIn(), IDENTITY, BINS)
    return resolver(prism_spectrum(), gratings=[grating_spectrum(broad=broad, error=error)])


@pytest.mark.parametrize("fwhm", [1500.0, 3500.0])
def test_a_broad_component_that_a_grating_resolves_is_divided_from_the_narrow_one(fwhm):
    result = broad_fit((0.6, fwhm))
    broad, k = result.measurements.broad, load_lines().index("Halpha")
    assert broad.probability > 0.99 and broad.fwhm == pytest.approx(fwhm, abs=3.0 * broad.fwhm_error)
    assert broad.fwhm_error < 0.15 * fwhm < 0.4 * 2500.0
    truth = 0.6 * LINE_FLUX["Halpha"]
    assert broad.broad_flux[k] == pytest.approx(truth, rel=0, abs=3.0 * broad.broad_flux_error[k])
    assert broad.broad_flux_error[k] < 0.2 * truth
    total = broad.broad_flux[k] + broad.narrow_flux[k]
    assert total == pytest.approx(result.measurements.flux[k], rel=1e-6, abs=0)
    others = np.delete(np.nan_to_num(broad.broad_flux), k)
    assert np.all(others == 0) and result.arms.width.value < 120.0
    (arm,) = result.arms.arms
    assert arm.chi_square < 1.2 and not result.flags


def test_lines_of_badly_fitted_arms_have_larger_errors():
    alone = SuperResolver(JointStandIn(error=1e-17), IDENTITY, BINS)(prism_spectrum(), redshift=REDSHIFT)
    prior, arms = LinePrior.of(alone.measurements, REDSHIFT), [Arm(grating_spectrum())]
    found = scan(arms, prior, lambda z: np.exp(-0.5 * ((z - REDSHIFT) / 1e-3) ** 2), 1.0, PRIORS)
    good = fit_arms(arms, prior, found, PRIORS)
    poor = replace(good, arms=(replace(good.arms[0], chi_square=4.0),))
    k = load_lines().index("Halpha")
    one, two = (joint.joint_lines(alone, one) for one in (good, poor))
    assert two.flux_error[k] / one.flux_error[k] == pytest.approx(2.0, rel=1e-5)
    assert two.flux[k] == one.flux[k] and np.array_equal(one.correlation, two.correlation, equal_nan=True)
    kept = one.reported
    assert np.all(two.flux_error[kept] <= 1.001 * alone.measurements.flux_error[kept])


def test_narrow_lines_do_not_become_broad_ones():
    result = broad_fit((0.0, 2000.0))
    broad, k = result.measurements.broad, load_lines().index("Halpha")
    assert broad.probability < 0.1
    assert broad.broad_flux[k] < 0.05 * result.measurements.flux[k]
    assert broad.narrow_flux[k] + broad.broad_flux[k] == pytest.approx(
        result.measurements.flux[k], rel=1e-6, abs=0
    )


def test_a_grating_that_tells_nothing_leaves_the_chance_of_broad_lines():
    result = broad_fit((0.6, 2000.0), error=1e-18)
    broad = result.measurements.broad
    assert broad.probability == pytest.approx(0.2, abs=0.1)
    assert broad.fwhm == pytest.approx(2500.0, rel=0.1) and broad.fwhm_error > 0.3 * 2500.0


def test_derivatives_of_the_model_are_those_of_differences():
    alone = SuperResolver(BroadStandIn(), IDENTITY, BINS)(prism_spectrum(), redshift=REDSHIFT)
    prior, arms = LinePrior.of(alone.measurements, REDSHIFT), [Arm(grating_spectrum())]
    found = scan(arms, prior, lambda z: np.exp(-0.5 * ((z - REDSHIFT) / 1e-3) ** 2), 1.0, PRIORS)
    (halpha,) = np.flatnonzero(prior.broad.scatter)
    problem = JointProblem(arms, prior, PRIORS, found, [halpha])
    rng = np.random.default_rng(1)
    point = problem.start + 0.3 * rng.normal(size=problem.start.size)
    problem.scales[0] = point[problem.at_arm[0]]
    _, columns, where = problem.columns(point, 0)
    assert where.size == np.unique(where).size and problem.start.size - 1 in where
    for row, parameter in zip(columns, where, strict=True):
        step = np.zeros(point.size)
        step[parameter] = 1e-4
        above, below = (problem.columns(point + sign * step, 0)[0] for sign in (1.0, -1.0))
        expected = (above - below) / 2e-4
        if parameter == problem.at_arm[0]:  # by design only of what is expected: the class says why
            continue
        assert row == pytest.approx(expected, abs=2e-3 * np.abs(expected).max() + 1e-12), parameter


def test_a_continuum_is_straight_where_it_is_stiffened():
    arm = Arm(grating_spectrum())
    wave, halpha = arm.spectrum.wavelength, 2.78
    bump = np.exp(-0.5 * ((wave - halpha) / 0.015) ** 2)
    stiff = arm.stiffened(np.array([halpha]), 0.03)
    near = np.abs(wave / halpha - 1.0) < 0.02
    assert np.abs(np.diff(stiff.continuum_of(bump)[near], 2)).max() < 1e-6
    assert arm.continuum_of(bump)[near].max() > 0.8 > 0.7 > stiff.continuum_of(bump)[near].max()
    line = 3.0 + wave
    assert stiff.continuum_of(line)[arm.good] == pytest.approx(line[arm.good], rel=1e-6)


def test_a_model_without_joint_errors_is_refused():
    with pytest.raises(ValueError, match=r"one with joint line errors.*sr2.line_errors"):
        LinePrior.of(measured(None)[0], 2.0)


def test_priors_are_checked():
    with pytest.raises(ValueError, match="arm_scale: expected a positive number"):
        ArmPriors(arm_scale=0.0)


@pytest.fixture(scope="module")
def joined_result():
    network = JointStandIn(redshift=REDSHIFT + 0.002)
    resolver = SuperResolver(network, IDENTITY, BINS)
    arms = [grating_spectrum(f"nirspec-{name}", seed) for seed, name in enumerate(("g140m", "g235m"))]
    return resolver(prism_spectrum(path="prism.fits", sha256="a" * 64), gratings=arms)


def test_a_result_has_redshift_lines_and_arms(joined_result):
    result, lines = joined_result, load_lines()
    assert not result.flags and not result.redshift.given
    assert abs(result.redshift.value - REDSHIFT) < 4.0 * result.redshift.error < 1e-3
    assert result.redshift.probability.sum() == pytest.approx(1.0)
    for name, flux in LINE_FLUX.items():
        k = lines.index(name)
        measured = result.measurements
        assert measured.flux[k] / flux == pytest.approx(1.0, abs=4.0 * measured.flux_error[k] / flux)
        assert measured.flux_error[k] < 0.1 * flux and measured.detected[k]
    # the blend that the prism cannot divide is divided
    assert result.ratio("[OIII]_5008", "Halpha").value == pytest.approx(1.5, rel=0.1)
    assert [arm.name for arm in result.arms.arms] == ["G140M", "G235M"]
    for arm in result.arms.arms:
        assert abs(arm.scale.value - 1.13) < 4.0 * arm.scale.error
        assert np.nanstd(arm.residual) == pytest.approx(1.0, abs=0.2)
    offset = velocity_between(result.arms.prism, Measured(result.redshift.value, 0.0))
    assert offset.value == pytest.approx(0.002 / (1.0 + REDSHIFT) * SPEED_OF_LIGHT, abs=60.0)


def test_pixels_say_where_they_come_from_and_are_better_where_gratings_are(joined_result):
    result = joined_result
    source, wave = result.arms.source, result.wavelength
    assert np.all(source[(wave > 0.75) & (wave < 1.6)] == 1 + 2)
    assert np.all(source[(wave > 1.8) & (wave < 2.1)] == 1 + 2 + 4)
    assert np.all(source[wave > 4.1] == 1)
    both = source == 7
    assert np.median(result.flux_error[both]) < 4e-22  # that of the prism alone in the stand-in
    assert np.median(result.flux_error[source == 1]) == pytest.approx(4e-22, abs=1e-23)


@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_files_hold_the_arms_and_give_them_back(joined_result, tmp_path, ending):
    path = tmp_path / f"one_sr.{ending}"
    joined_result.write(path)
    again = Result.read(path)
    again.write(tmp_path / f"two_sr.{ending}")
    assert path.read_bytes() == (tmp_path / f"two_sr.{ending}").read_bytes()
    one, two = joined_result.arms, again.arms
    assert np.array_equal(one.source, two.source)
    for a, b in zip(one.arms, two.arms, strict=True):
        assert (a.scale.value, a.shift.error) == pytest.approx((b.scale.value, b.shift.error), rel=1e-9)
        assert a.name == b.name and b.spectrum.meta.path == a.spectrum.meta.path
    if ending == "fits":
        header = fits.getheader(path)
        assert header["ARMS"] == "G140M,G235M" and "SHIFT_G235M_ERR" in header and "SCALE_G140M" in header
        assert np.array_equal(two.arms[1].spectrum.mask, one.arms[1].spectrum.mask)
        assert read_header(path)["ARMS"] == "G140M,G235M"
        again.plot(tmp_path / "x.png")


def test_a_table_of_results_has_the_arms_of_those_that_have_any(joined_result):
    alone = SuperResolver(JointStandIn(), IDENTITY, BINS)(prism_spectrum())
    rows = [row_of(joined_result, "joined"), row_of(alone, "alone")]
    table, arm = as_table(rows), joined_result.arms.arms[1]
    assert list(table["ARMS"]) == [2, 0] and table["SHIFT_G235M"].unit == "km / s"
    assert (table["SHIFT_G235M"][0], table["SCALE_G235M_ERR"][0]) == (arm.shift.value, arm.scale.error)
    assert np.isnan(table["SCALE_G395M"]).all() and np.isnan(table["Z_PRISM"][1])
    assert table["Z_PRISM"][0] == joined_result.arms.prism.value != table["Z"][0]
    assert "ARMS" not in as_table(rows[1:]).colnames


def test_arms_that_disagree_are_flagged_and_keep_their_lines():
    resolver = SuperResolver(JointStandIn(), IDENTITY, BINS)
    arms = [grating_spectrum(f"nirspec-{name}", redshift=REDSHIFT) for name in ("g140m", "g235m")]
    arms[1] = grating_spectrum("nirspec-g235m", scale=0.4)
    result = resolver(prism_spectrum(), gratings=arms)
    assert result.flags == ("ARMS_DISAGREE",) and result.measurements.detected.sum() >= 3
    assert any(note.startswith("arms disagree: flux scale of G235M") for note in result.notes)
    assert any("G140M" in text and "G235M" in text for text in result.arms.disagreements)


def test_gratings_that_are_badly_fitted_do_not_move_the_redshift(monkeypatch):
    monkeypatch.setattr(joint, "POOR_ARM", 0.1)
    resolver = SuperResolver(JointStandIn(width=2e-4), IDENTITY, BINS)
    result = resolver(prism_spectrum(), gratings=[grating_spectrum(redshift=REDSHIFT + 0.01)])
    assert result.arms is None and result.flags == ("ARMS_DISAGREE",) and result.lines_kept
    assert result.redshift.value == pytest.approx(REDSHIFT, abs=1e-4)
    assert result.measurements.detected.sum() >= 3
    assert any("G235M not used: they want another redshift" in note for note in result.notes)
    assert any(note.startswith("arms disagree: redshift: prism 3.23") for note in result.notes)


def test_a_prism_s_fit_is_judged_at_its_own_redshift():
    """Its zero point may be another: that must not keep gratings out."""

    class Moved(JointStandIn):
        def row(self, one):
            away = np.isfinite(one["redshift"]) and abs(one["redshift"] - self.redshift) > 5e-4
            return super().row(one) | {"fit_probability": 1e-5 if away else self.fit}

    network = Moved(redshift=REDSHIFT + 0.002)
    for network.fit, flags in ((0.3, ()), (1e-5, ("POOR_FIT",))):
        result = SuperResolver(network, IDENTITY, BINS)(prism_spectrum(), gratings=[grating_spectrum()])
        assert result.flags == flags and (result.arms is None) == bool(flags)
        assert result.fit_probability == pytest.approx(network.fit)


def test_gratings_decide_where_the_prism_is_of_two_minds():
    class TwoMinds(JointStandIn):
        def row(self, one):
            found = super().row(one)
            other = np.exp(-0.5 * ((BINS - np.log1p(2.2)) / self.width) ** 2)
            probability = 0.4 * found["redshift_probability"] + 0.6 * other / other.sum()
            return found | {"redshift_probability": probability / probability.sum()}

    resolver = SuperResolver(TwoMinds(), IDENTITY, BINS)
    alone = resolver(prism_spectrum())
    assert alone.redshift.confidence < 0.5
    result = resolver(prism_spectrum(), gratings=[grating_spectrum()])
    assert abs(result.redshift.value - REDSHIFT) < 1e-3 and result.redshift.confidence > 0.99
    assert not result.flags


def test_several_spectra_are_joined_with_their_own_gratings_and_wrong_ones_refused():
    resolver = SuperResolver(JointStandIn(), IDENTITY, BINS)
    arms = [[grating_spectrum()], [grating_spectrum("nirspec-g140m")]]
    results = resolver([prism_spectrum(), prism_spectrum(2)], gratings=arms, redshift=[REDSHIFT, None])
    assert [result.arms.arms[0].name for result in results] == ["G235M", "G140M"]
    assert results[0].arms.given == REDSHIFT and np.isnan(results[1].arms.given)
    with pytest.raises(ValueError, match=r"for each of 2 spectra one where there are several, got 1"):
        resolver([prism_spectrum(), prism_spectrum(2)], gratings=arms[:1])
    with pytest.raises(SpectrumError, match=r"one grating spectrum per disperser, got G235M, G235M"):
        resolver(prism_spectrum(), gratings=[grating_spectrum(), grating_spectrum()])
    far = grating_spectrum(ra=10.0, dec=0.001, path="far.fits")
    with pytest.raises(SpectrumError, match=r"far.fits: lies 3.6 arcsec from"):
        resolver(prism_spectrum(ra=10.0, dec=0.0), gratings=[far])
    with pytest.raises(SpectrumError, match=r"G235M spectrum; expected NIRSpec PRISM.*--with FILE"):
        resolver(grating_spectrum(), gratings=[grating_spectrum()])
    with pytest.raises(NoJointLinesError, match=r"states each line's error by itself"):
        SuperResolver(StandIn(), IDENTITY, BINS)(prism_spectrum(), gratings=[grating_spectrum()])
