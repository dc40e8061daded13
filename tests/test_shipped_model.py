"""The model that ships in the clone: whole, of this version's layers, and of use."""

import numpy as np
import pytest

import kspecsr
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.simulation import simulate_batch
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.evaluation.sources import SimulatedHeldOut
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
    for plain, low in zip(sr(spectra, known), sr(sunk, known), strict=True):
        assert low.notes[-1].startswith("continuum is negative")
        before, after = plain.measurements, low.measurements
        bright = before.signal_to_noise > 10
        error = np.hypot(before.flux_error, after.flux_error)[bright]
        lost = [np.isnan(one.equivalent_width).sum() for one in (before, after)]
        assert lost[1] > lost[0]  # none on a continuum that is not the galaxy's
        assert np.all(np.abs(after.flux - before.flux)[bright] < 3 * error)
        compared += bright.sum()
    assert compared > 5


def test_it_finds_the_redshifts_of_galaxies_that_it_never_saw(sr):
    galaxies = SimulatedHeldOut(sr.identity.grid, seed=77, chunk_size=24).chunk(0)
    outputs = sr.predict_arrays(
        galaxies.prism_flux * FLUX_UNIT_IN_RECORDS,
        galaxies.prism_error * FLUX_UNIT_IN_RECORDS,
        galaxies.prism_mask,
    )
    off = np.abs(outputs["redshift"] - galaxies.redshift) / (1 + galaxies.redshift)
    assert np.mean(off < 0.005) > 0.8
