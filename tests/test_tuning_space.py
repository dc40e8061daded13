"""Axes, and what becomes of their values in a preset."""

import math

import pytest

from kspecsr.configuration import PRESETS, STAGES
from kspecsr.training.run_settings import check_same_settings, stage_settings
from kspecsr.training.state import StateError
from tuning.space import SPACES, Axis, AxisError, check_space, search_space, values_of, with_values


def axis(stage, name):
    return next(axis for axis in SPACES[stage] if axis.name == name)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", ["default", "first", "small", "paper"])
def test_every_shipped_preset_can_be_swept(stage, preset):
    axes = search_space(stage)
    check_space(PRESETS[preset], stage, axes)
    values = values_of(PRESETS[preset], stage, axes)
    assert all(each.nearest(values[each.name]) == values[each.name] for each in axes)


@pytest.mark.parametrize("stage", STAGES)
def test_the_default_preset_lies_in_its_own_space(stage):
    axes = search_space(stage)
    preset = PRESETS["default"]
    assert with_values(preset, stage, axes, values_of(preset, stage, axes)) == preset


@pytest.mark.parametrize("value", [2.34567891e-3, 1e-2, 2e-4, 5.0])
def test_values_survive_single_precision(value):
    import numpy as np

    rate = axis("sr1", "learning_rate")
    once = rate.nearest(value)
    assert rate.nearest(float(np.float32(once))) == once
    assert rate.low <= once <= rate.high
    assert once == pytest.approx(min(value, 1e-2), rel=1e-3, abs=0)


def test_whole_numbers_stay_on_their_steps():
    width = axis("sr1", "width")
    assert width.values() == [48, 64, 80, 96, 112, 128, 144]
    assert [width.nearest(value) for value in (0, 71, 73, 1000)] == [48, 64, 80, 144]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("width", "32:64", {"low": 32, "high": 64}),
        ("width", "32, 64", {"choices": (32, 64)}),
        ("learning_rate", "1e-4:1e-3", {"low": 1e-4, "high": 1e-3, "log": True}),
        ("batch_size", "64,8", {"choices": (8, 64)}),
        ("activation", "gelu", {"choices": ("gelu",)}),
    ],
)
def test_other_values_of_an_axis(name, text, expected):
    narrowed = axis("sr1", name).narrowed(text)
    assert {key: getattr(narrowed, key) for key in expected} == expected
    assert narrowed.place == axis("sr1", name).place


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("width", "64:32", "expected LOW:HIGH with LOW < HIGH, got 64 to 32"),
        ("width", "a:b", r"expected LOW:HIGH or values with commas between them, got 'a:b'"),
        ("learning_rate", "0:1", "LOW < HIGH above 0"),
        ("activation", "tanh", "expected some of elu, relu, gelu, silu, got tanh"),
        ("activation", "elu:relu", "a list of words has no range"),
        ("batch_size", ",", "expected one value or more"),
        ("batch_size", "16,16", "the same value twice"),
    ],
)
def test_bad_values_of_an_axis(name, text, words):
    with pytest.raises(AxisError, match=words):
        axis("sr1", name).narrowed(text)


def test_unknown_names_are_listed():
    with pytest.raises(AxisError, match="stage 'sr3' is unknown; expected one of sr1, zhead, sr2"):
        search_space("sr3")
    with pytest.raises(AxisError, match="axis 'depth' is unknown; expected one of learning_rate,"):
        search_space("sr1", ("depth",))
    with pytest.raises(
        AxisError, match="zhead: none of the axes heads is one of its own, which are learning"
    ):
        search_space("zhead", ("heads",))


def test_a_space_that_the_configuration_refuses_is_refused_at_once():
    axes = search_space("sr2", (), {"heads": "5", "token_dim": "48:64"})
    with pytest.raises(AxisError, match=r"of sr2: sr2.token_dim: expected a multiple of sr2.heads \(5\)"):
        check_space(PRESETS["default"], "sr2", axes)


def test_another_batch_size_sees_as_many_galaxies():
    axes = search_space("sr1", ("batch_size",))
    for size in (16, 32, 64):
        training = with_values(PRESETS["default"], "sr1", axes, {"batch_size": size}).training["sr1"]
        assert training.batch_size == size
        assert training.steps_per_epoch * size == 1600


def test_the_paper_s_axes_are_there():
    common = {"learning_rate", "weight_decay", "dropout", "width", "blocks", "activation", "clip_norm"}
    for stage in ("sr1", "zhead"):
        assert common | {"batch_size"} <= {each.name for each in SPACES[stage]}
    weights = {"line_fidelity", "smoothness"}
    assert weights <= {each.name for each in SPACES["sr1"]}
    own = {
        "token_dim",
        "heads",
        "layers",
        "half_width",
        "cnn_depth",
        "cnn_width",
        "residual_cap",
        "residual_l1",
    }
    assert own | weights <= {each.name for each in SPACES["sr2"]}


def test_an_axis_needs_a_range():
    with pytest.raises(AxisError, match="LOW < HIGH"):
        Axis("a", "training.learning_rate", 1.0, 1.0)
    assert Axis("a", "training.learning_rate", 0.0, 1.0).size == math.inf


def test_a_training_from_before_the_new_loss_terms_goes_on(tmp_path):
    now = stage_settings("sr1", PRESETS["first"], {}, {}, {})
    terms = ("sr1_line_shape", "sr1_smoothness")
    before = {**now, "losses": {k: v for k, v in now["losses"].items() if k not in terms}}
    check_same_settings(before, now, tmp_path)
    with pytest.raises(StateError, match=r"losses.sr1_smoothness was 0.0, now 0.1"):
        check_same_settings(before, {**now, "losses": {**now["losses"], "sr1_smoothness": 0.1}}, tmp_path)
