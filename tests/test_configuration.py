"""Presets: JSON both ways, unknown keys refused, every option read by something."""

import ast
import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from kspecsr.configuration import (
    PRESETS,
    STAGES,
    FeedConfig,
    LossConfig,
    ModelConfig,
    Preset,
    SR1Config,
    SR2Config,
    TrainingConfig,
    ZHeadConfig,
    load_preset,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    preset = PRESETS[name]
    assert preset.name == name
    assert Preset.from_json(preset.to_json()) == preset
    assert set(preset.training) == set(STAGES)


def test_keys_left_out_keep_their_defaults():
    preset = Preset.from_json(
        '{"name": "mine", "model": {"sr1": {"blocks": 3}}, "training": {"sr1": {"epochs": 2}}}'
    )
    assert preset.model.sr1 == replace(SR1Config(), blocks=3)
    assert preset.training["sr1"] == replace(TrainingConfig(), epochs=2)
    assert preset.training["sr2"] == TrainingConfig()
    assert Preset.from_json("{}").losses == LossConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"modle": {}}', "preset: unknown key modle"),
        ('{"model": {"sr1": {"width": 3}}}', r"preset.model.sr1: unknown key width; known keys: trunk"),
        ('{"model": {"sr1": {"trunk": "both"}}}', "sr1.trunk: expected one of detector, grid, got 'both'"),
        ('{"model": {"sr2": {"token_dim": 30, "heads": 4}}}', r"multiple of sr2.heads \(4\), got 30"),
        ('{"model": {"zhead": {"templates": 9}}}', r"multiple of zhead.groups \(8\), got 9"),
        ('{"losses": {"presence": -1}}', "losses.presence: expected 0 or more, got -1"),
        ('{"feed": {"population": "dwarfs"}}', "feed.population: expected one of survey, wide"),
        ('{"training": {"sr4": {}}}', "expected training settings for sr1, zhead, sr2"),
        ('{"training": {"sr1": {"clip_norm": 0}}}', "training.clip_norm: expected a positive number"),
        ('{"training": {"sr1": {"learning_rate": "fast"}}}', "expected float, got 'fast'"),
        ("[1", "preset: not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        Preset.from_json(text)


def test_a_preset_from_a_file_is_named_in_its_error(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(PRESETS["small"].to_json())
    assert load_preset(path) == PRESETS["small"]
    path.write_text('{"nmae": "x"}')
    with pytest.raises(ValueError, match=r"mine.json: preset: unknown key nmae"):
        load_preset(path)
    with pytest.raises(FileNotFoundError, match="shipped presets default, first, paper, small"):
        load_preset("defualt")


def test_one_stage_can_be_changed():
    preset = PRESETS["default"].with_training("zhead", epochs=1)
    assert preset.training["zhead"].epochs == 1
    assert preset.training["sr1"] == PRESETS["default"].training["sr1"]
    assert json.loads(preset.to_json())["training"]["zhead"]["epochs"] == 1


def attributes_read(folders):
    """Names that the code takes as attributes, outside the configuration itself."""
    names = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if "configuration" in path.parts:
                continue
            names |= {
                node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
            }
    return names


@pytest.mark.parametrize(
    "config", [SR1Config, ZHeadConfig, SR2Config, ModelConfig, TrainingConfig, FeedConfig]
)
def test_every_option_is_read_by_something(config):
    read = attributes_read(["kspecsr"])
    assert is_dataclass(config)
    assert [item.name for item in fields(config) if item.name not in read] == []
