import json
import re
import zipfile
from dataclasses import replace

import astropy.units as u
import keras
import numpy as np
import pytest

import kspecsr
from benchmarks.inference_speed import precision_parity
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from enhancement_sample import write_stand_in_folder
from kspecsr.configuration import PRESETS, Preset
from kspecsr.configuration.model import ModelConfig
from kspecsr.model_folder import (
    ModelFolderError,
    load_composed,
    load_stage,
    read_settings,
    stage_hash,
    write_stage,
)
from kspecsr.model_settings import find_model, weights_hash
from kspecsr.models import build_sr1, build_sr2, build_zhead, compose, redshift_bins
from model_sample import TINY, numpy_dict, spectra, tiny_model

PRESET = PRESETS["small"]


def network(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = {"x": keras.Input((4,), name="x")}
    return keras.Model(inputs, {"y": keras.layers.Dense(2)(inputs["x"])})


def test_a_stage_comes_back_with_its_weights_and_provenance(tmp_path):
    model = network()
    sha256 = write_stage(tmp_path / "run", "sr1", model, PRESET, {"steps": 120, "goal": 0.5})
    assert sha256 == stage_hash(tmp_path / "run", "sr1")
    settings = read_settings(tmp_path / "run")
    assert settings.preset == PRESET and settings.name == "run"
    assert settings.stages == {"sr1": {"steps": 120, "goal": 0.5}}
    assert "keras" in settings.software and "numpy" in settings.software
    x = np.ones((3, 4), "float32")
    loaded = load_stage(tmp_path / "run", "sr1")
    np.testing.assert_array_equal(loaded({"x": x})["y"], model({"x": x})["y"])


def test_a_trunk_in_bfloat16_has_the_same_weights_and_float32_outputs(tmp_path):
    preset = replace(PRESET, model=TINY)
    write_stage(tmp_path, "sr1", build_sr1(TINY), preset, {})
    exact, quick = (load_stage(tmp_path, "sr1", precision) for precision in ("float32", "mixed_bfloat16"))
    policies = {layer.dtype_policy.name for layer in quick.layers}
    assert policies == {"float32", "mixed_bfloat16"}
    prism = {name: x for name, x in spectra(4)[0].items() if name.startswith("prism")}
    first, second = (numpy_dict(network(prism)) for network in (exact, quick))
    assert {values.dtype.name for values in second.values()} == {"float32"}
    off = np.abs(second["sr1_flux"] - first["sr1_flux"]) / first["sr1_error"]
    assert 0 < np.quantile(off, 0.99) < 0.3


def test_what_bfloat16_changes_is_measured(tmp_path):
    redshifts, fluxes = precision_parity(tiny_model(tmp_path), 4, "sky")
    assert re.match(r"\d+\.\d\d% of 4 redshifts within 0\.003 \(1 \+ z\); median change", redshifts)
    assert re.match(r"line fluxes, \d+: median change 0\.\d+, 99 % within", fluxes)


def test_stages_are_added_in_order_and_others_stay(tmp_path):
    for stage in ("sr1", "sr2", "zhead"):
        write_stage(tmp_path, stage, network(), PRESET, {"stage": stage}, name="mine")
    before = stage_hash(tmp_path, "sr1")
    write_stage(tmp_path, "sr2", network(1), PRESET, {"stage": "again"})
    settings = read_settings(tmp_path)
    assert list(settings.stages) == ["sr1", "zhead", "sr2"]
    assert settings.stages["sr2"] == {"stage": "again"} and settings.name == "mine"
    assert stage_hash(tmp_path, "sr1") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.json",
        "sr1.keras",
        "sr2.keras",
        "zhead.keras",
    ]


def test_the_hash_of_a_model_changes_with_any_stage(tmp_path):
    folder = write_stand_in_folder(tmp_path)
    first = weights_hash(folder)
    assert len(first) == 64 and weights_hash(folder) == first
    (folder / "zhead.keras").write_bytes(b"other")
    assert weights_hash(folder) != first


def test_a_stage_on_another_grid_is_refused_with_both_grids(tmp_path):
    write_stage(tmp_path, "sr1", network(), PRESET, {})
    other = Preset(model=ModelConfig(grid=UnifiedGrid(1.0, 5.0, 2000.0)))
    with pytest.raises(
        ModelFolderError, match=r"sr1 trained on the grid 0\.7-5\.3 um .* 3000 .*new zhead on 1-5 um .* 2000"
    ):
        write_stage(tmp_path, "zhead", network(), other, {})
    assert not (tmp_path / "zhead.keras").exists()


def test_a_failed_save_leaves_the_folder_as_it_was(tmp_path):
    write_stage(tmp_path, "sr1", network(), PRESET, {"steps": 1})
    before = stage_hash(tmp_path, "sr1")

    class Broken:
        def save(self, path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_stage(tmp_path, "sr1", Broken(), PRESET, {"steps": 2})
    assert stage_hash(tmp_path, "sr1") == before
    assert read_settings(tmp_path).stages["sr1"] == {"steps": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "sr1.keras"]


def test_missing_folders_files_and_stages_are_named(tmp_path):
    with pytest.raises(ModelFolderError, match=r"nowhere: no such folder; expected a model folder"):
        read_settings(tmp_path / "nowhere")
    with pytest.raises(ModelFolderError, match=r"holds no model\.json, so it is no model folder"):
        read_settings(tmp_path)
    write_stage(tmp_path, "sr1", network(), PRESET, {})
    with pytest.raises(
        ModelFolderError, match=r"zhead\.keras: no such file; the folder holds sr1\. Train .* --stage zhead"
    ):
        load_composed(tmp_path)
    with pytest.raises(ValueError, match="stage 'sr3' is unknown; expected one of sr1, zhead, sr2"):
        load_stage(tmp_path, "sr3")


def test_damaged_files_are_named(tmp_path):
    write_stage(tmp_path, "sr1", network(), PRESET, {})
    path = tmp_path / "sr1.keras"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFolderError, match=r"sr1\.keras: damaged .*get an unaltered copy or train again"):
        load_stage(tmp_path, "sr1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelFolderError, match=r"sr1\.keras: Keras cannot load it"):
        load_stage(tmp_path, "sr1")
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ModelFolderError, match=r"model\.json: cannot be read"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"colour": 1}, r"model\.json: model: unknown key colour"),
        ({"preset": {"model": {"depth": 3}}}, r"unknown key depth"),
        ({"preset": 3}, r"model\.preset: expected an object, got 3"),
        ({"stages": {"sr9": {}}}, r"unknown stage sr9; known: sr1, zhead, sr2"),
    ],
)
def test_unknown_keys_are_errors(tmp_path, change, text):
    folder = write_stand_in_folder(tmp_path)
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ModelFolderError, match=text):
        read_settings(folder)


def test_a_stage_trained_on_another_upstream_stage_is_refused(tmp_path):
    first = write_stage(tmp_path, "sr1", network(), PRESET, {})
    write_stage(tmp_path, "zhead", network(), PRESET, {"upstream": {"sr1": first}})
    write_stage(tmp_path, "sr2", network(), PRESET, {})
    (tmp_path / "sr1.keras").write_bytes(b"other")
    with pytest.raises(ModelFolderError, match=r"zhead was trained on another sr1 .*train zhead again"):
        load_composed(tmp_path)


def test_a_model_is_found_by_folder_or_shipped_name(tmp_path, monkeypatch):
    folder = write_stand_in_folder(tmp_path / "mine")
    assert find_model(folder) == folder
    with pytest.raises(ModelFolderError, match=r"neither a model folder nor the name of a shipped model"):
        find_model("no-such-model")
    package = tmp_path / "installed" / "kspecsr"
    package.mkdir(parents=True)
    monkeypatch.setattr("kspecsr.model_settings.__file__", str(package / "model_settings.py"))
    with pytest.raises(ModelFolderError, match=r"no trained weights are .*kspecsr train"):
        kspecsr.load()
    shipped = write_stand_in_folder(tmp_path / "installed" / "saved_models" / "default")
    assert find_model() == shipped


def test_three_stages_load_as_one_model_that_super_resolves(tmp_path):
    preset = Preset(name="tiny", model=TINY)
    networks = [build_sr1(TINY), build_zhead(TINY), build_sr2(TINY)]
    upstream = {}
    for stage, one in zip(("sr1", "zhead", "sr2"), networks, strict=True):
        upstream[stage] = write_stage(tmp_path / "tiny", stage, one, preset, {"upstream": dict(upstream)})
    sr = kspecsr.load(tmp_path / "tiny")
    assert sr.identity.name == "tiny" and sr.identity.sha256 == weights_hash(tmp_path / "tiny")
    inputs, batch = spectra(3, unit=1.0)
    outputs = sr.predict_arrays(inputs["prism_flux"], inputs["prism_error"], inputs["prism_mask"])
    expected = numpy_dict(compose(*networks)(inputs))
    assert outputs.keys() == expected.keys()
    for name in ("flux", "sr1_flux", "line_flux", "prism_model"):
        tolerance = 1e-3 * np.abs(expected[name]).max()
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-3, atol=tolerance)
    flux_unit = u.Unit("erg / (s cm2 Angstrom)")
    result = sr(
        (
            batch.prism_wavelength * u.um,
            batch.prism_flux[0] * flux_unit,
            batch.prism_error[0] * flux_unit,
            batch.prism_mask[0],
        ),
        redshift=2.0,
    )
    assert result.wavelength.size == TINY.grid.size and result.redshift.value == 2.0
    np.testing.assert_allclose(result.redshift.bins, redshift_bins(TINY))
    assert len(result.lines) == len(load_lines())
