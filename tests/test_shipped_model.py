"""The model that ships in the clone: whole, of this version's layers, and of use."""

import numpy as np
import pytest

import kspecsr
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.simulation import simulate_batch
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.evaluation.evaluation import Evaluation
from kspecsr.evaluation.methods import EvaluationConfig
from kspecsr.evaluation.sources import SimulatedHeldOut
from kspecsr.measures.gate import shipped_gate
from kspecsr.model_settings import find_model, read_settings


def test_the_shipped_model_says_what_it_is_and_holds_no_path():
    settings = read_settings(find_model())
    assert settings.name == "default"
    assert set(settings.stages) == {"sr1", "zhead", "sr2"}
    text = (find_model() / "model.json").read_text()
    assert not [word for word in text.split('"') if word.startswith("/")]
    assert sum(path.stat().st_size for path in find_model().iterdir()) < 40e6


@pytest.fixture(scope="module")
def sr():
    return kspecsr.load()


def test_lines_on_a_continuum_that_is_negative_keep_their_fluxes(sr):
    """Over-subtracted by 30 errors per pixel, as the raw networks lose every line."""
    batch = simulate_batch(np.arange(12), 77, gratings=False)
    arrays = (batch.prism_flux, batch.prism_error, batch.prism_mask)
    meta = SpectrumMeta(disperser="PRISM")
    spectra = [ObservedSpectrum(batch.prism_wavelength, *one, meta) for one in zip(*arrays, strict=True)]
    sunk = [one.replace(flux=one.flux - 30 * np.nanmedian(one.error)) for one in spectra]
    known = [float(z) if z == z else 1.0 for z in batch.redshift]
    compared = 0
    for plain, low in zip(*(sr(one, known, keep_flagged=True) for one in (spectra, sunk)), strict=True):
        assert low.notes[-1].startswith("continuum is negative")
        before, after = plain.measurements, low.measurements
        bright = before.signal_to_noise > 10
        error = np.hypot(before.flux_error, after.flux_error)[bright]
        lost = [np.isnan(one.equivalent_width).sum() for one in (before, after)]
        assert lost[1] > lost[0]  # none on a continuum that is not the galaxy's
        assert np.all(np.abs(after.flux - before.flux)[bright] < 3 * error)
        compared += bright.sum()
    assert compared > 5


# Of the limits of a gate; the others need more galaxies, or minutes.
PART = ("recovery", "recovery_scatter", "blended_error over direct_fit", "false_detection", "redshift_nmad")
PART += (
    "redshift_outliers_0.15",
    "redshift_confident_outliers",
    "coverage_68/lines",
    "coverage_68/continuum",
)
PART += ("prism_chi_square",)


def test_it_keeps_a_part_of_its_gate_on_a_hundred_galaxies(sr, tmp_path):
    """Within three times what a hundred galaxies scatter by."""
    gate = shipped_gate("release")
    config = EvaluationConfig(
        n=100,
        seed=77,
        population=gate.population or "survey",
        methods=("cubic", "direct_fit", "sr2"),
        prior_galaxies=0,
        resamples=30,
    )
    evaluation = Evaluation(find_model(), tmp_path, config, quiet=True)
    evaluation.__dict__["networks"] = sr  # loaded already
    evaluation.measure(gate)
    found, values = evaluation.metrics["sr2"], evaluation.values()
    for name in PART:
        limit, estimate = gate.evaluation[f"sr2/{name}"].resolved(values), found[name]
        scatter = 0.5 * (estimate.high - estimate.low)
        assert limit.excess(estimate.value) <= 3.0 * scatter, (name, estimate, limit.text)


def test_it_finds_the_redshifts_of_galaxies_that_it_never_saw(sr):
    galaxies = SimulatedHeldOut(sr.identity.grid, seed=77, chunk_size=24).chunk(0)
    outputs = sr.predict_arrays(
        galaxies.prism_flux * FLUX_UNIT_IN_RECORDS,
        galaxies.prism_error * FLUX_UNIT_IN_RECORDS,
        galaxies.prism_mask,
    )
    off = np.abs(outputs["redshift"] - galaxies.redshift) / (1 + galaxies.redshift)
    assert np.mean(off < 0.005) > 0.8
