"""Identical networks on three inputs: the same galaxies and weights, and a comparison that can go on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.identical_examples import (
    INPUTS,
    NOISY,
    identical_examples,
    judged_examples,
    network_inputs,
    training_examples,
)
from benchmarks.identical_picture import draw_identical_networks
from benchmarks.identical_training import (
    IdenticalRun,
    build_spectrum_redshift,
    compare_inputs,
    offset_figures,
)
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from kspecsr.evaluation.sources import SHIPPED_SEED, SimulatedHeldOut
from kspecsr.training.state import StateError
from training_sample import tiny_preset

PRESET = tiny_preset()
GRID = PRESET.model.grid


class FlatSpectra:
    """Stands in for a model: every galaxy comes out with the same spectrum."""

    def predict_arrays(self, flux, error, mask=None, redshift=None):
        shape = (len(flux), GRID.size)
        one = np.full(shape, FLUX_UNIT_IN_RECORDS)
        return {"flux": one * (2.0 + np.sin(np.arange(GRID.size))), "flux_error": one}


@pytest.fixture(scope="module")
def held_out():
    return SimulatedHeldOut(GRID, seed=3, feed=NOISY, chunk_size=24).chunk(0)


@pytest.fixture(scope="module")
def run():
    return IdenticalRun(
        config=PRESET.model,
        training=PRESET.training["zhead"],
        directory=None,
        n=12,
        seed=1,
        held_out_seed=SHIPPED_SEED,
        workers=0,
    )


def test_inputs_of_a_galaxy_share_pixels_and_differ_in_flux(held_out):
    examples = identical_examples(held_out)
    shown = {
        "lr": network_inputs(examples["lr_flux"], examples["lr_error"], examples["mask"], GRID),
        "hr": network_inputs(examples["hr_flux"], examples["hr_error"], examples["mask"], GRID),
    }
    for name in ("prism_flux", "prism_error", "prism_mask", "redshift"):
        assert np.array_equal(shown["lr"][name], shown["hr"][name], equal_nan=True)
    assert np.ptp(shown["lr"]["prism_flux"]) == 0
    assert not np.allclose(shown["lr"]["sr1_flux"], shown["hr"]["sr1_flux"])
    for inputs in shown.values():
        assert np.isfinite(inputs["sr1_flux"]).all()
        assert (inputs["sr1_error"] > 0).all()


def test_inputs_do_not_depend_on_the_flux_scale_and_masked_pixels_are_bridged(held_out):
    examples = identical_examples(held_out)
    flux, error, mask = examples["hr_flux"], examples["hr_error"], examples["mask"].copy()
    plain = network_inputs(flux, error, mask, GRID)
    bright = network_inputs(1000.0 * flux, 1000.0 * error, mask, GRID)
    assert bright["sr1_flux"] == pytest.approx(plain["sr1_flux"], rel=1e-4, abs=1e-5)
    mask[:, 100:140] = True
    wild = flux.copy()
    wild[:, 100:140] = 1e9
    bridged, zero = (network_inputs(f, error, mask, GRID) for f in (wild, np.where(mask, 0.0, flux)))
    assert np.array_equal(bridged["sr1_flux"], zero["sr1_flux"])
    seen = network_inputs(flux, error, np.ones_like(mask), GRID)
    assert seen["prism_mask"].all()
    assert np.isfinite(seen["sr1_flux"]).all()


def test_galaxies_of_a_step_are_the_same_wherever_training_begins_and_none_is_judged():
    with training_examples(None, GRID, 4, 1, 0, 0) as batches:
        first, second = next(batches), next(batches)
    with training_examples(None, GRID, 4, 1, 1, 0) as batches:
        again = next(batches)
    assert np.array_equal(second["hr_flux"], again["hr_flux"])
    assert len(first["redshift"]) == len(second["redshift"]) == 4
    judged = next(judged_examples(None, GRID, 4, SHIPPED_SEED))
    assert np.isfinite(judged["redshift"]).all()
    assert not np.isin(judged["redshift"], np.concatenate([first["redshift"], second["redshift"]])).any()


def test_networks_begin_with_the_same_weights():
    networks = [build_spectrum_redshift(PRESET.model, PRESET.training["zhead"], name, 5) for name in INPUTS]
    weights = [network.get_weights() for network in networks]
    assert len(weights[0]) > 5
    for others in weights[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(weights[0], others, strict=True))


def stop_after_the_first_epoch(line):
    if line.startswith("epoch 1/"):
        raise KeyboardInterrupt


def test_a_comparison_goes_on_where_it_was_stopped_and_refuses_other_settings(run, tmp_path, not_compiled):
    whole, parts, said = tmp_path / "whole", tmp_path / "parts", []
    results = compare_inputs(run, FlatSpectra(), whole, said.append)
    assert [line.split()[1] for line in said] == ["1/2", "2/2"]
    with pytest.raises(KeyboardInterrupt):
        compare_inputs(run, FlatSpectra(), parts, stop_after_the_first_epoch)
    said.clear()
    resumed = compare_inputs(run, FlatSpectra(), parts, said.append)
    assert said[0] == "goes on after epoch 1"
    assert resumed["inputs"] == results["inputs"]
    with pytest.raises(StateError, match="other settings; give --restart"):
        compare_inputs(replace(run, seed=7), FlatSpectra(), parts, said.append)

    assert set(results["inputs"]) == set(INPUTS)
    assert json.loads((whole / "identical_networks.json").read_text()) == results
    assert results["settings"]["galaxies"] == 12
    with np.load(whole / "identical_networks.npz") as stored:
        assert stored["true"].shape == stored["sr"].shape == (12,)
    assert (whole / "identical_networks.png").stat().st_size > 10_000


def test_figures_of_known_offsets():
    true = np.random.default_rng(1).uniform(1.0, 6.0, 400)
    found = true + (1.0 + true) * np.where(np.arange(400) < 40, 0.3, 0.002)
    figures = offset_figures(true, found)
    assert figures["outliers_0.15"]["value"] == pytest.approx(0.1)
    assert figures["outliers_0.01"]["low"] < 0.1 < figures["outliers_0.01"]["high"]
    assert figures["nmad"]["value"] == pytest.approx(0.0, abs=1e-6)


def test_picture_has_equal_limits_colours_and_figures():
    rng = np.random.default_rng(2)
    true = rng.uniform(0.5, 8.0, 300)
    found = {
        name: true + s * rng.standard_normal(300) for name, s in zip(INPUTS, (1.0, 0.2, 0.05), strict=True)
    }
    panels = draw_identical_networks(true, found).axes[:3]
    assert len({panel.get_xlim() + panel.get_ylim() for panel in panels}) == 1
    assert len({id(panel.collections[0].norm) for panel in panels}) == 1
    assert all("NMAD" in panel.get_title() for panel in panels)
