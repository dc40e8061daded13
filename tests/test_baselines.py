from dataclasses import replace

import numpy as np
import pytest

from benchmarks import tune_baselines as tuning
from benchmarks.baseline_guards import GuardedSample, Limits
from benchmarks.tune_baselines import TunedBaselines, main, read_tuned
from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.instrument.prism_pixels import LAG_COVARIANCE, LOW_FREQUENCY_VARIANCE, PIXEL_NOISE_VARIANCE
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.resampling import upsample
from data_pipeline.simulation.noise import detector_pixels, prism_noise
from kspecsr.configuration import FeedConfig
from kspecsr.feeds.simulated import validation_examples
from kspecsr.measures.held_out import HeldOut
from kspecsr.measures.lines import line_signal_to_noise
from kspecsr.methods.baseline import CubicInterpolation, prism_view
from kspecsr.methods.regularised import STEP, Tikhonov, Wiener, nodes_for, signal_power
from kspecsr.methods.richardson_lucy import RichardsonLucy, iterate
from kspecsr.methods.tuned import default_baselines, make_baseline

GRID = UnifiedGrid()
SHORT = UnifiedGrid(2.0, 2.4)
P = load_instrument(PRISM).wavelength.size
METHODS = (CubicInterpolation(), Wiener(), Tikhonov(), RichardsonLucy())
LINEAR = (Wiener(), Tikhonov())
IDS = [method.name for method in METHODS]


def pixel_covariance(error):
    """Dense covariance (P, P) of the pixels' noise, from quoted one-sigma errors (P,)."""
    size = len(error)
    lag = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    table = np.zeros(max(size, LAG_COVARIANCE.size))
    table[: LAG_COVARIANCE.size] = LAG_COVARIANCE
    return np.outer(error, error) * table[lag]


def held_out_of(batch, grid=GRID):
    """The galaxies of `validation_examples` as held out."""
    given = ("prism_error", "prism_mask", "line_flux", "line_known", "true_redshift")
    same = set(HeldOut.__dataclass_fields__) & set(batch) - {"redshift"}
    return HeldOut(
        grid=grid,
        galaxy=np.arange(len(batch["redshift"])),
        line_snr=line_signal_to_noise(*(batch[name] for name in given)),
        redshift=batch["true_redshift"].astype(float),
        continuum_snr=np.median(batch["prism_flux"] / batch["prism_error"], axis=1),
        **{name: batch[name] for name in same},
    )


@pytest.fixture(scope="module")
def survey():
    return held_out_of(validation_examples(80, 5, FeedConfig(population="survey"), GRID))


@pytest.fixture(scope="module")
def spectra(survey):
    few = survey.rows(slice(0, 12))
    return few.prism_flux.astype(float), few.prism_error.astype(float), few.prism_mask


def example(rng, grid=SHORT):
    """One spectrum with a line, uneven errors and some masked pixels; (1, P) each."""
    view = prism_view(grid)
    x = view.wider.wavelength
    middle = np.sqrt(grid.start * grid.stop)
    truth = 2.0 + x / middle + 30.0 * np.exp(-0.5 * ((x / middle - 1.0) * 1500.0) ** 2)
    error = 0.2 * np.exp(0.3 * rng.standard_normal(P))
    mask = rng.random(P) < 0.05
    mask[np.argmin(np.abs(view.wavelength / middle - 1.02))] = True
    flux = view.apply(truth[None]) + error * rng.standard_normal(P)
    return flux, error[None], mask[None]


def dense_estimator(method, grid, flux, error, mask):
    """(N, P) matrix from data to flux, in the nodes' basis with dense algebra."""
    nodes = nodes_for(grid)
    count = nodes.position.size
    spread, matrix = nodes.spread.toarray(), nodes.view.matrix.toarray()
    weight = np.where(~mask[0] & nodes.view.usable, error[0] ** -2.0, 0.0)
    seen = matrix @ spread
    if method.name == "tikhonov":
        curvature = np.diff(np.eye(count), 2, axis=0) / STEP**2
        penalty = method.strength * np.median(weight[weight > 0]) * STEP * curvature.T @ curvature
        inner = np.linalg.solve(seen.T @ (weight[:, None] * seen) + penalty, seen.T * weight)
    else:
        good = weight > 0
        apart = np.abs(np.subtract.outer(nodes.position, nodes.position))
        prior = method.amplitude**2 * signal_power(flux, weight[None])[0] * np.exp(-apart / method.length)
        noise = np.diag(LOW_FREQUENCY_VARIANCE * error[0, good] ** 2)
        inner = np.zeros((count, P))
        inner[:, good] = prior @ seen[good].T @ np.linalg.inv(seen[good] @ prior @ seen[good].T + noise)
    return (spread @ inner)[nodes.view.inside]


def test_the_operator_is_the_true_one():
    view = prism_view(GRID)
    true = load_instrument(PRISM).line_spread_operator(GRID.bounds, seen_by=reference_instrument(GRID))
    both = true.interior
    assert view.usable[both].all() and both.sum() > 600
    difference = view.matrix[both][:, view.inside] - true.matrix[both]
    assert abs(difference).max() < 3e-4 * true.matrix.max()
    assert np.allclose(view.wider.wavelength[view.inside], GRID.wavelength, rtol=1e-12)
    flux = np.random.default_rng(0).random((3, view.wider.size))
    pixels = np.random.default_rng(1).random((3, P))
    assert np.allclose(view.apply(flux), (view.matrix @ flux.T).T)
    assert np.sum(view.apply(flux) * pixels) == pytest.approx(np.sum(flux * view.apply_transposed(pixels)))


def test_the_noise_is_that_of_the_simulator():
    rng = np.random.default_rng(2)
    noise = prism_noise(rng.standard_normal((20000, detector_pixels(20))), rng.random(20000), 20)
    assert np.cov(noise.T) == pytest.approx(pixel_covariance(np.ones(20)), abs=0.05)
    assert LAG_COVARIANCE[0] == pytest.approx(PIXEL_NOISE_VARIANCE)


def test_cubic_is_the_papers_upsampling(spectra):
    flux, error, mask = spectra
    fine, sigma = CubicInterpolation().reconstruct(flux, error, mask, GRID)
    wavelength = load_instrument(PRISM).wavelength
    for row in range(len(flux)):
        right = upsample(wavelength, flux[row], error[row], mask[row], GRID.wavelength)
        assert np.array_equal(fine[row], right[0], equal_nan=True)
        assert np.array_equal(sigma[row], right[1], equal_nan=True)


@pytest.mark.parametrize("method", LINEAR, ids=lambda method: method.name)
def test_linear_methods_equal_dense_algebra(method):
    flux, error, mask = example(np.random.default_rng(3))
    estimator = dense_estimator(method, SHORT, flux, error, mask)
    fine, sigma = method.reconstruct(flux, error, mask, SHORT)
    kept = np.isfinite(fine[0])
    assert 0.7 < kept.mean() < 1.0
    right = estimator @ np.where(mask[0], 0.0, flux[0])
    assert fine[0, kept] == pytest.approx(right[kept], abs=1e-6)
    variance = np.einsum("np,pq,nq->n", estimator, pixel_covariance(error[0]), estimator)
    # errors are made at the nodes and joined linearly
    assert sigma[0, kept] == pytest.approx(np.sqrt(variance)[kept], rel=0.05)
    assert np.median(sigma[0, kept] / np.sqrt(variance)[kept]) == pytest.approx(1.0, abs=0.01)


def test_the_nodes_lose_nothing_against_a_solution_in_all_pixels():
    flux, error, mask = example(np.random.default_rng(4))
    view = prism_view(SHORT)
    step = np.diff(view.position)
    middle = 0.5 * (step[1:] + step[:-1])
    second = np.diff(np.diff(np.eye(view.wider.size), axis=0) / step[:, None], axis=0) / middle[:, None]
    matrix = view.matrix.toarray()
    weight = np.where(~mask[0] & view.usable, error[0] ** -2.0, 0.0)
    penalty = 0.1 * np.median(weight[weight > 0]) * second.T @ (middle[:, None] * second)
    normal = matrix.T @ (weight[:, None] * matrix) + penalty
    right = np.linalg.solve(normal, matrix.T @ (weight * np.where(mask[0], 0.0, flux[0])))[view.inside]
    fine, sigma = Tikhonov(0.1).reconstruct(flux, error, mask, SHORT)
    kept = np.isfinite(fine[0])
    assert np.max(np.abs(fine[0] - right)[kept] / sigma[0, kept]) < 0.2
    assert np.std((fine[0] - right)[kept]) < 0.01 * np.std(right[kept])


def test_richardson_lucy_stays_positive_and_gains_likelihood():
    rng = np.random.default_rng(5)
    view = prism_view(SHORT)
    good = view.usable & (rng.random(P) > 0.1)
    expected = view.apply(np.where(rng.random((1, view.wider.size)) > 0.97, 200.0, 10.0))
    counts = np.where(good, rng.poisson(expected), 0.0)
    x, likelihood = np.full((1, view.wider.size), 15.0), []
    for _ in range(15):
        seen = view.apply(x)[:, good]
        likelihood.append(np.sum(counts[:, good] * np.log(seen) - seen))
        x = iterate(counts, good[None], x, 1, view)
        assert (x > 0).all()
    assert (np.diff(likelihood) > 0).all()


def test_richardson_lucy_approaches_the_data():
    flux, error, mask = example(np.random.default_rng(6), GRID)
    residuals = []
    for iterations in (0, 2, 8, 32):
        fine = RichardsonLucy(iterations).reconstruct(flux, error, mask & False, GRID)[0]
        view = prism_view(GRID)
        wide = np.zeros((1, view.wider.size))
        wide[:, view.inside] = fine
        use = slice(60, 640)
        residuals.append(np.sum(((view.apply(wide) - flux) / error)[:, use] ** 2))
    assert (np.diff(residuals) < 0).all()


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_flat_stays_flat(method):
    flux, error, mask = np.full((1, P), 3.0), np.full((1, P), 0.01), np.zeros((1, P), bool)
    fine = method.reconstruct(flux, error, mask, GRID)[0]
    # a Wiener filter pulls towards its mean, zero, by a part of the noise
    assert fine == pytest.approx(3.0, abs=1e-3 if method.name == "wiener" else 1e-5)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@pytest.mark.parametrize("factor", [7.0, 1e-20])
def test_output_scales_with_input(method, factor, spectra):
    flux, error, mask = spectra
    fine, sigma = method.reconstruct(flux, error, mask, GRID)
    scaled = method.reconstruct(factor * flux, factor * error, mask, GRID)
    size = np.nanmax(np.abs(fine))
    assert scaled[0] / factor / size == pytest.approx(fine / size, abs=1e-7, nan_ok=True)
    assert scaled[1] / factor / size == pytest.approx(sigma / size, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_masked_pixels_have_no_influence_and_gaps_stay_gaps(method, spectra):
    flux, error, mask = (array.copy() for array in spectra)
    mask[:, 300:330] = True
    mask[0, 200] = True
    fine, sigma = method.reconstruct(flux, error, mask, GRID)
    flux[mask], error[mask] = 1e6, 1e-9
    other = method.reconstruct(flux, error, mask, GRID)
    assert np.array_equal(fine, other[0], equal_nan=True)
    assert np.array_equal(sigma, other[1], equal_nan=True)
    flux[mask], error[mask] = np.nan, 0.0
    assert np.array_equal(fine, method.reconstruct(flux, error, mask, GRID)[0], equal_nan=True)
    wavelength = load_instrument(PRISM).wavelength
    for row in range(len(flux)):
        gone = upsample(wavelength, np.zeros(P), np.ones(P), mask[row], GRID.wavelength)[2]
        assert np.array_equal(np.isnan(fine[row]), gone)
        assert np.array_equal(np.isnan(sigma[row]), gone)
    gap = (GRID.wavelength > wavelength[300]) & (GRID.wavelength < wavelength[329])
    assert np.isnan(fine[:, gap]).all() and (sigma[np.isfinite(sigma)] > 0).all()


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_spectrum_does_not_depend_on_its_batch_and_an_empty_one_is_nan(method, spectra):
    flux, error, mask = (array.copy() for array in spectra)
    mask[3] = True
    mask[4, 3:] = True
    mask[5, 250:] = True
    fine, sigma = method.reconstruct(flux, error, mask, GRID)
    assert np.isnan(fine[3:5]).all() and np.isnan(sigma[3:5]).all()
    single = method.reconstruct(flux[5:6], error[5:6], mask[5:6], GRID)
    for array, alone in zip((fine, sigma), single, strict=True):
        assert alone[0] == pytest.approx(array[5], rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_arrays_of_a_wrong_shape_are_refused(method):
    with pytest.raises(ValueError, match=r"expected flux, error and mask of one shape \(B, 706\)"):
        method.reconstruct(np.zeros(P), np.ones(P), np.zeros(P, bool), GRID)


# Richardson-Lucy by its stated approximation, about a spectrum without bright lines
@pytest.mark.parametrize("method", [*LINEAR, Tikhonov(0.003), RichardsonLucy(8, 4.0)], ids=str)
def test_errors_are_the_scatter_over_noise(method):
    rng = np.random.default_rng(7)
    view, n = prism_view(GRID), 200
    x = view.wider.wavelength
    truth = view.apply((2.0 + np.sin(3 * x) + 0.5 * np.exp(-0.5 * ((x - 2.5) / 0.01) ** 2))[None])
    error = np.broadcast_to(0.3 + 0.2 * np.cos(2 * load_instrument(PRISM).wavelength), (n, P))
    mask = np.broadcast_to(np.arange(P) % 97 == 50, (n, P))
    noise = prism_noise(rng.standard_normal((n, detector_pixels(P))), rng.random(n), P)
    fine, sigma = method.reconstruct(truth + error * noise, error, mask, GRID)
    inside = np.isfinite(fine[0])
    scatter = np.std(fine[:, inside], axis=0) / np.median(sigma[:, inside], axis=0)
    assert np.median(scatter) == pytest.approx(1.0, abs=0.05)
    # beside masked pixels Richardson-Lucy's approximation is worst
    low, high = np.percentile(scatter, [5, 95])
    assert low > 0.85 and high < (1.15 if method.name != "richardson_lucy" else 1.25)


def smoothed(flux, width):
    """Gaussian of ``width`` prism pixels (one sigma) in the prism pixels' coordinate."""
    view = prism_view(GRID)
    place = view.position[view.inside]
    even = np.arange(place[0], place[-1], 0.1)
    kernel = np.exp(-0.5 * (np.arange(-60, 61) * 0.1 / width) ** 2)
    kernel /= kernel.sum()
    made = np.empty(flux.shape)
    for row, values in enumerate(flux):
        padded = np.pad(np.interp(even, place, values), 60, mode="edge")
        made[row] = np.interp(place, even, np.convolve(padded, kernel, mode="valid"))
    return made


@pytest.fixture(scope="module")
def doublets():
    """Noisy galaxies with bright [O III] pairs between 3.0 and 3.6 um, and the same at prism resolution."""
    rng = np.random.default_rng(8)
    n, lines, x = 60, load_lines(), GRID.wavelength
    redshift = rng.uniform(5.0, 6.2, n)
    truth = np.full((n, GRID.size), 1.0)
    flux = np.zeros((n, len(lines)))
    known = np.zeros(flux.shape, bool)
    for name, strength in (("[OIII]_4960", 30.0), ("[OIII]_5008", 60.0), ("Hdelta", 30.0)):
        k = lines.index(name)
        centre = lines.wavelength[k] * (1 + redshift[:, None])
        sigma = reference_instrument(GRID).sigma(centre)
        truth += strength * np.exp(-0.5 * ((x - centre) / sigma) ** 2)
        flux[:, k] = (strength * sigma * np.sqrt(2 * np.pi) * 1e4)[:, 0]
        known[:, k] = True
    view = prism_view(GRID)
    wide = np.ones((n, view.wider.size))
    wide[:, view.inside] = truth
    error, mask = np.full((n, P), 1.0), np.zeros((n, P), bool)
    noise = prism_noise(rng.standard_normal((n, detector_pixels(P))), rng.random(n), P)
    held_out = HeldOut(
        grid=GRID,
        galaxy=np.arange(n),
        prism_flux=view.apply(wide) + noise,
        prism_error=error,
        prism_mask=mask,
        target_flux=truth,
        target_error=np.zeros(truth.shape),
        target_mask=np.zeros(truth.shape, bool),
        target_continuum=np.ones(truth.shape),
        continuum_known=np.ones(n, bool),
        line_flux=flux,
        line_error=np.zeros(flux.shape),
        line_known=known,
        line_snr=np.where(known, 50.0, 0.0),
        redshift=redshift,
        continuum_snr=np.ones(n),
    )
    sharp = Tikhonov(0.001).reconstruct(held_out.prism_flux, error, mask, GRID)[0]
    return held_out, sharp


def test_guards_pass_the_truth_and_measure_its_width(doublets):
    held_out, _ = doublets
    figures = GuardedSample(held_out).figures(held_out.target_flux)
    assert figures.error == pytest.approx(0.0, abs=1e-6)
    assert figures.amplitude == pytest.approx(1.0, abs=1e-6)
    assert figures.pairs == 1.0
    centre = load_lines().wavelength[load_lines().index("Hdelta")] * (1 + held_out.redshift)
    right = np.median(reference_instrument(GRID).fwhm(centre) / load_instrument(PRISM).fwhm(centre))
    assert figures.width == pytest.approx(right, rel=0.05)


def test_each_guard_sees_what_the_error_norm_prefers_and_the_others_miss(doublets):
    held_out, sharp = doublets
    sample = GuardedSample(held_out)
    view = prism_view(GRID)
    wide = np.ones((len(sharp), view.wider.size))
    wide[:, view.inside] = held_out.target_flux
    cubic = sample.figures(
        CubicInterpolation().reconstruct(
            held_out.prism_flux, held_out.prism_error, held_out.prism_mask, GRID
        )[0]
    )
    honest, limits = sample.figures(sharp), Limits()
    assert limits.violations(honest, cubic) == {}

    shrunk = sample.figures(1.0 + 0.8 * (sharp - 1.0))
    assert set(limits.violations(shrunk, cubic)) == {"amplitude"}
    assert shrunk.amplitude == pytest.approx(0.8 * honest.amplitude)
    assert shrunk.width == pytest.approx(honest.width) and shrunk.pairs == honest.pairs

    blurred = sample.figures(smoothed(sharp, 1.4))
    assert "width" in limits.violations(blurred, cubic)
    assert "amplitude" not in limits.violations(blurred, cubic)

    # smooth but around the line that stands alone, whose width is all that the other guard looks at
    alone = np.abs(GRID.wavelength / (0.4103 * (1 + held_out.redshift[:, None])) - 1.0) < 0.04
    merged = sample.figures(np.where(alone, sharp, smoothed(sharp, 1.8)))
    assert set(limits.violations(merged, cubic)) == {"pairs"}
    assert merged.width == honest.width

    for made in (shrunk, blurred, merged):
        assert made.error < honest.error


def test_the_error_norm_is_free_of_scale_and_of_gaps(survey):
    truth = survey.target_flux[:3].astype(float)
    made = 4.0 * truth
    made[:, 100:200] = np.nan
    sample = GuardedSample(survey.rows(slice(0, 3)))
    assert sample.scale_free_error(made) == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(sample.scale_free_error(np.full(truth.shape, np.nan))).all()
    # 1 is the error of a constant, as in the evaluation's continuum
    assert sample.scale_free_error(np.ones(truth.shape)) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def tuned(survey):
    search = {
        "wiener": {"amplitude": (0.3, 4.0), "length": (30.0,)},
        "tikhonov": {"strength": (0.03, 10.0)},
        "richardson_lucy": {"iterations": (0,), "offset": (4.0,)},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "SEARCH", search)
        seen = []
        found = tuning.tune(survey, tried=seen.append)
    assert len(seen) == len(found.trials) == 6
    return found


def test_tuning_keeps_to_the_guards_and_records_everything(tuned):
    trials = {(trial.method, *trial.parameters.values()): trial for trial in tuned.trials}
    strong, weak = trials["tikhonov", 10.0], trials["tikhonov", 0.03]
    assert "width" in strong.failed and not strong.chosen
    assert not weak.failed and weak.chosen and tuned.tikhonov == {"strength": 0.03}
    assert tuned.wiener == {"amplitude": 4.0, "length": 30.0}
    # nothing passes: the nearest is taken, and its trial says what it fails
    assert [trial.method for trial in tuned.trials if trial.chosen and trial.failed] == ["richardson_lucy"]
    assert tuned.richardson_lucy == {"iterations": 0.0, "offset": 4.0}
    assert tuned.galaxies == 80 and tuned.lines > 10 and tuned.pairs > 3
    assert trials["cubic",].failed == ()


def test_a_tuning_survives_json(tuned, tmp_path):
    assert TunedBaselines.from_json(tuned.to_json()) == tuned
    path = tmp_path / "tuned.json"
    path.write_text(tuned.to_json())
    assert read_tuned(path) == tuned
    path.write_text('{"tikhonov": {}}')
    with pytest.raises(ValueError, match=r"tuned\.json: tuned baselines: missing key"):
        read_tuned(path)


def test_tuning_refuses_galaxies_on_which_a_guard_would_be_blind(survey):
    with pytest.raises(ValueError, match="take more galaxies"):
        tuning.tune(replace(survey, line_snr=np.zeros_like(survey.line_snr)))


def test_what_ships_is_a_whole_guarded_search():
    shipped = read_tuned()
    assert [method.name for method in default_baselines()] == IDS
    assert not any(trial.failed for trial in shipped.trials if trial.chosen)
    assert (shipped.sample.n, shipped.sample.seed, shipped.galaxies) == (300, 11, 300)
    assert len(shipped.trials) == 1 + len(tuning.candidates())
    assert [trial.parameters for trial in shipped.trials[1:]] == [
        {name: float(value) for name, value in baseline.parameters.items()}
        for baseline in tuning.candidates()
    ]
    for method in default_baselines():
        chosen = [trial for trial in shipped.trials if trial.chosen and trial.method == method.name]
        assert all(trial.parameters == dict(method.parameters) for trial in chosen)


def test_unknown_baselines_and_parameters_are_refused():
    with pytest.raises(ValueError, match="expected one of cubic, wiener, tikhonov, richardson_lucy"):
        make_baseline("magic", {})
    with pytest.raises(ValueError, match="unknown or missing parameter lamda, strength"):
        make_baseline("tikhonov", {"lamda": 1.0})
    for wrong in (lambda: Tikhonov(0.0), lambda: Wiener(length=-1.0), lambda: RichardsonLucy(2.5)):
        with pytest.raises(ValueError, match="expected a"):
            wrong()


def test_the_command_shows_what_ships(capsys):
    assert main(["--show"]) == 0
    out = capsys.readouterr().out
    assert out.count("chosen") == 3 and "300 galaxies" in out
