"""The model that ships in the clone: whole, of this version's layers, and of use."""

import numpy as np

import kspecsr
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from kspecsr.evaluation.sources import SimulatedHeldOut
from kspecsr.model_settings import find_model, read_settings


def test_the_shipped_model_says_what_it_is_and_holds_no_path():
    settings = read_settings(find_model())
    assert settings.name == "default"
    assert set(settings.stages) == {"sr1", "zhead", "sr2"}
    text = (find_model() / "model.json").read_text()
    assert not [word for word in text.split('"') if word.startswith("/")]
    assert sum(path.stat().st_size for path in find_model().iterdir()) < 40e6


def test_it_finds_the_redshifts_of_galaxies_that_it_never_saw():
    sr = kspecsr.load()
    galaxies = SimulatedHeldOut(sr.identity.grid, seed=77, chunk_size=24).chunk(0)
    outputs = sr.predict_arrays(
        galaxies.prism_flux * FLUX_UNIT_IN_RECORDS,
        galaxies.prism_error * FLUX_UNIT_IN_RECORDS,
        galaxies.prism_mask,
    )
    off = np.abs(outputs["redshift"] - galaxies.redshift) / (1 + galaxies.redshift)
    assert np.mean(off < 0.005) > 0.8
