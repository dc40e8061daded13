"""Configuration of the simulator: JSON both ways, refusals, and that every option is read."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from data_pipeline.simulation import (
    KINDS,
    POPULATIONS,
    TROUBLES,
    WITHOUT_REDSHIFT,
    Nuisances,
    Population,
    SimulationConfig,
    simulate_batch,
)
from data_pipeline.simulation.config import share_of


@pytest.mark.parametrize(
    "config",
    [
        SimulationConfig(),
        SimulationConfig("wide"),
        SimulationConfig("wide", lines="second"),
        SimulationConfig(Population(name="mine", species_scatter=0.2), Nuisances(noise_scale=0.0)),
    ],
)
def test_json_round_trip(config):
    assert SimulationConfig.from_json(config.to_json()) == config


def test_the_list_of_lines_is_named_only_where_it_is_not_the_first():
    # what archives, records and runs from before it say is still the same simulation
    assert set(json.loads(SimulationConfig().to_json())) == {"population", "nuisances"}
    assert json.loads(SimulationConfig(lines="second").to_json())["lines"] == "second"
    with pytest.raises(ValueError, match="lines='third': expected one of first, second"):
        SimulationConfig.from_json('{"lines": "third"}')


def test_a_name_and_partial_objects_are_understood():
    assert SimulationConfig.from_json('{"population": "wide"}') == SimulationConfig("wide")
    partial = SimulationConfig.from_json('{"population": {"name": "wide", "noise_fraction": 0.0}}')
    assert partial.population == replace(POPULATIONS["wide"], noise_fraction=0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"populatoin": "wide"}',
            "simulation configuration: unknown key populatoin; known keys: population",
        ),
        ('{"nuisances": {"noise": 0}}', "nuisances: unknown key noise; known keys: prism_resolution_scale"),
        ('{"population": {"seed": 1}}', "population: unknown key seed; known keys: name"),
        ('{"population": "deep"}', "population='deep' is unknown; expected one of survey, wide"),
        ('{"population": 3}', "population: expected an object"),
        ("[1]", "expected an object with keys among population, nuisances, lines"),
        ("{", "not JSON"),
        ('{"nuisances": {"noise_scale": -1}}', "noise_scale: expected zero or more, got -1"),
        ('{"nuisances": {"grating_correlation": 0.7}}', "grating_correlation: expected 0 to 0.5, got 0.7"),
        ('{"nuisances": {"edge_pixels": [5, 2]}}', "edge_pixels: expected 0 <= fewest <= most"),
        ('{"population": {"noise_fraction": 1.2}}', "noise_fraction: expected 0 to 1, got 1.2"),
        ('{"population": {"noise_fraction": 0.99}}', "sum of the fractions"),
        ('{"population": {"hot_pixels_fraction": 0.6, "detector_step_fraction": 0.5}}', "got 1.1"),
        (
            '{"population": {"beyond_the_grid_fraction": 0.1}}',
            'beyond_the_grid_fraction: needs continua "lib',
        ),
        ('{"population": {"redshift_range": [3, 2]}}', "redshift_range: expected 0 <= low < high <= 15"),
        ('{"population": {"line_sn_median": 0}}', "line_sn_median: expected a positive number, got 0"),
        ('{"population": {"extra_dust": NaN}}', "extra_dust: expected a finite number, got nan"),
        ('{"population": {"redshift_range": [0, NaN]}}', "redshift_range: expected a finite number, got nan"),
        ('{"nuisances": {"noise_scale": Infinity}}', "noise_scale: expected a finite number, got inf"),
        ('{"nuisances": {"noise_scale": "much"}}', "nuisances.noise_scale: expected float, got 'much'"),
        ('{"population": {"extra_dust": "1"}}', "population.extra_dust: expected float, got '1'"),
    ],
)
def test_wrong_configurations_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        SimulationConfig.from_json(text)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.json not found"):
        SimulationConfig.from_file(tmp_path / "absent.json")
    with pytest.raises(IsADirectoryError, match="is a directory; expected a JSON file"):
        SimulationConfig.from_file(tmp_path)
    (tmp_path / "broken.json").write_text('{"nuisances": {"noise_scale": "much"}}')
    with pytest.raises(ValueError, match=r"broken\.json: "):
        SimulationConfig.from_file(tmp_path / "broken.json")


CHANGED_POPULATION = {
    "releases": {"dja-v4": 1.0},
    "flat_redshift_fraction": 1.0,
    "redshift_range": (1.0, 2.0),  # with flat_redshift_fraction=1
    "species_scatter": 0.3,
    "extra_dust": 3.0,
    "line_sn_median": 5.0,
    "line_sn_scatter": 1.0,
    "continuum_sn_median": 50.0,
    "continuum_sn_scatter": 1.0,
    "equivalent_width_factor": 3.0,
    "equivalent_width_scatter": 1.0,
    "equivalent_width_correlation": -0.5,
    "broad_line_fraction": 0.5,
    "little_red_dot_fraction": 1.0,
    "quiescent_fraction": 0.5,
    "post_starburst_fraction": 0.5,
    **dict.fromkeys(map(share_of, (*WITHOUT_REDSHIFT, "quasar")), 0.4),
    **dict.fromkeys(map(share_of, TROUBLES), 1.0),
    "continua": "library",
    "outflow_fraction": 1.0,
    "metal_rich_fraction": 1.0,
    "size_scatter": 0.3,
    "reobserved_fraction": 1.0,
    "shared_id_fraction": 0.5,
}
CHANGED_NUISANCES = {
    "prism_resolution_scale": 1.1,
    "prism_resolution_scatter": 0.1,
    "zero_point_shift": 0.4,
    "flux_ratio": 1.5,
    "flux_ratio_scatter": 0.3,
    "flux_ratio_drift": 0.3,
    "arm_scale_scatter": 0.3,
    "noise_scale": 0.5,
    "quoted_error": 2.0,
    "quoted_error_scatter": 0.4,
    "grating_quoted_error": 2.0,
    "grating_correlation": 0.1,
    "photon_noise": 0.5,
    "grating_photon_noise": 0.5,
    "bad_pixel_fraction": 0.1,
    "edge_pixels": (9, 9),
    "outlier_fraction": 0.1,
    "gap_fraction": 0.0,
    "missing_grating_fraction": 1.0,
}
# Every kind is present, and a part of the redshifts is flat, so that every option has something to act on.
BASE = Population(
    flat_redshift_fraction=0.3,
    broad_line_fraction=0.2,
    quiescent_fraction=0.2,
    post_starburst_fraction=0.2,
    reobserved_fraction=0.0,
    shared_id_fraction=0.0,
)


def test_populations_of_before_draw_what_they_drew():
    """Their random numbers are keyed by this; the shares of later kinds and troubles are zero in them."""
    assert POPULATIONS["survey"].stream == 12892077009093204190
    assert POPULATIONS["wide"].stream == 14183333322330308341
    assert [name for name, one in POPULATIONS.items() if one.is_open] == ["open-sky", "wide-open"]


def fingerprint(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Population, "stream", 0)  # else a new population changes every random number
        batch = simulate_batch(np.arange(12), 3, config)
    values = [batch.prism_flux, batch.prism_error, batch.noise_free, batch.noise_free_prism, batch.redshift]
    values += [batch.nirspec_id, batch.ra, *(s.flux for s in batch.gratings.values())]
    values += [s.error for s in batch.gratings.values()]
    return np.concatenate([np.nan_to_num(value).ravel() for value in values])


@pytest.fixture(scope="module")
def reference():
    return fingerprint(SimulationConfig(BASE))


def test_the_lists_of_options_are_complete():
    assert set(CHANGED_POPULATION) == {item.name for item in fields(Population)} - {"name"}
    assert set(CHANGED_NUISANCES) == {item.name for item in fields(Nuisances)}


@pytest.mark.parametrize("name", CHANGED_POPULATION)
def test_every_option_of_the_population_is_read(name, reference):
    change = {name: CHANGED_POPULATION[name]}
    if name in ("quiescent_fraction", "post_starburst_fraction", *map(share_of, KINDS[4:])):
        change["broad_line_fraction"] = 0.1
    if name in ("beyond_the_grid_fraction", "quasar_fraction", "metal_rich_fraction"):
        change["continua"] = "library"
    changed = replace(BASE, **change)
    control = replace(BASE, **{k: v for k, v in change.items() if k != name})
    before = reference if control == BASE else fingerprint(SimulationConfig(control))
    assert not np.array_equal(fingerprint(SimulationConfig(changed)), before)


@pytest.mark.parametrize("name", CHANGED_NUISANCES)
def test_every_option_of_the_nuisances_is_read(name, reference):
    nuisances = Nuisances(**{name: CHANGED_NUISANCES[name]})
    assert not np.array_equal(fingerprint(SimulationConfig(BASE, nuisances)), reference)
