"""The stages under training: losses with gaps and empty spectra, and what is frozen stays as it is."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from kspecsr.configuration import PRESETS, STAGES
from kspecsr.feeds.example import split_batch
from kspecsr.feeds.simulated import simulated_examples
from kspecsr.training.stage_model import TERMS, StageModel
from model_sample import TINY

PRESET = replace(PRESETS["small"], model=TINY)


@pytest.fixture(scope="module")
def batch():
    """Eight simulated galaxies, the first without a good pixel, the second with a wrong redshift."""
    x, y = split_batch(simulated_examples(np.arange(8), 5, PRESET.feed, TINY.grid))
    x = {name: value.copy() for name, value in x.items()}
    x["prism_mask"][0] = True
    x["redshift"] = y["true_redshift"].copy()
    x["redshift"][1] = 9.0
    return x, y


@pytest.fixture(scope="module")
def trained(batch):
    """All stages after one step each, and the weights of each before the next one trained."""
    keras.utils.set_random_seed(3)
    networks, before, histories = {}, {}, {}
    for stage in STAGES:
        model = StageModel(stage, PRESET, networks)
        model.compile(optimizer=keras.optimizers.AdamW(1e-3), run_eagerly=True)
        histories[stage] = model.fit(*batch, batch_size=8, epochs=2, verbose=0).history
        networks[stage] = model.stage_network
        before[stage] = [np.array(w) for w in model.stage_network.get_weights()]
    return networks, before, histories


def test_an_empty_spectrum_and_a_wrong_redshift_leave_loss_and_weights_finite(trained):
    networks, _, histories = trained
    for stage in STAGES:
        assert np.isfinite(histories[stage]["loss"]).all(), stage
        assert all(np.isfinite(w).all() for w in networks[stage].get_weights()), stage


def test_every_loss_term_of_a_stage_is_logged(trained):
    for stage in STAGES:
        weights = PRESET.losses
        expected = {name for name in TERMS[stage] if getattr(weights, name, 1.0) > 0}
        assert expected <= set(trained[2][stage])


def test_a_frozen_stage_is_the_same_to_the_bit_after_the_next_ones_trained(trained):
    networks, before, _ = trained
    for stage in ("sr1", "zhead"):
        for now, then in zip(networks[stage].get_weights(), before[stage], strict=True):
            assert np.array_equal(now, then), stage
    # and a stage does move while it is trained
    fresh = StageModel("sr1", PRESET, {})
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(fresh.stage_network.get_weights(), before["sr1"], strict=True)
    ]
    assert np.mean(moved) > 0.5


def test_dropout_of_a_frozen_stage_is_off(trained, batch):
    networks = trained[0]
    model = StageModel("zhead", PRESET, {"sr1": networks["sr1"]})
    first, second = (np.asarray(model(batch[0], training=True)["sr1_flux"]) for _ in range(2))
    assert np.array_equal(first, second)


def test_what_is_missing_or_unknown_is_named():
    with pytest.raises(ValueError, match="stage sr2 needs the trained stage sr1 and zhead before it"):
        StageModel("sr2", PRESET, {})
    with pytest.raises(ValueError, match="expected a stage among sr1, zhead, sr2, got 'sr3'"):
        StageModel("sr3", PRESET, {})
