import keras
import numpy as np
import pytest

from kspecsr.training.optimizer import GuardedAdamW, skipped_steps


def variables():
    rng = np.random.default_rng(1)
    return [
        keras.Variable(rng.normal(size=(3, 2)).astype("float32"), name="kernel"),
        keras.Variable(rng.normal(size=2).astype("float32"), name="bias"),
    ]


def gradients(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [
        keras.ops.convert_to_tensor((scale * rng.normal(size=shape)).astype("float32"))
        for shape in ((3, 2), (2,))
    ]


def values(items):
    return [item.numpy().copy() for item in items]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_bad_steps_it_is_keras_adamw():
    ours, theirs = variables(), variables()
    guarded = GuardedAdamW(1e-2, weight_decay=0.1, clip_norm=1.0)
    plain = keras.optimizers.AdamW(1e-2, weight_decay=0.1, global_clipnorm=1.0)
    plain.exclude_from_weight_decay(var_names=["bias"])
    for seed in range(5):
        guarded.apply(gradients(seed, 3.0), ours)
        plain.apply(gradients(seed, 3.0), theirs)
    for a, b in zip(values(ours), values(theirs), strict=True):
        assert a == pytest.approx(b, rel=2e-6)
    assert skipped_steps(guarded) == 0


def test_gradients_are_scaled_to_the_norm_and_small_ones_are_left_alone():
    optimizer = GuardedAdamW(1e-2, clip_norm=0.5)
    optimizer.build(variables())
    clipped = optimizer._clip_gradients(gradients(0, 10.0))
    assert np.sqrt(sum(np.sum(np.square(g)) for g in clipped)) == pytest.approx(0.5, rel=1e-6)
    small = gradients(0, 1e-3)
    assert same([np.array(g) for g in optimizer._clip_gradients(small)], [np.array(g) for g in small])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_step_that_is_not_finite_changes_no_bit_and_is_counted(bad):
    ours = variables()
    optimizer = GuardedAdamW(1e-2, weight_decay=0.1)
    optimizer.apply(gradients(0), ours)
    weights, state = values(ours), values(optimizer.variables)
    broken = gradients(1)
    broken[1] = keras.ops.convert_to_tensor(np.array([0.0, bad], "float32"))
    optimizer.apply(broken, ours)
    assert same(values(ours), weights)
    changed = {
        variable.name
        for variable, before in zip(optimizer.variables, state, strict=True)
        if not np.array_equal(variable.numpy(), before)
    }
    assert changed == {"iteration", "skipped_steps"}
    assert skipped_steps(optimizer) == 1


def test_after_a_skipped_step_it_goes_on_as_if_that_had_not_been():
    # at a constant rate: the bias correction counts applied steps only, also when the very first one is bad
    with_bad, without = variables(), variables()
    first, second = GuardedAdamW(1e-2), GuardedAdamW(1e-2)
    nothing = [keras.ops.full((3, 2), np.nan), keras.ops.zeros(2)]
    first.apply(nothing, with_bad)
    for seed in range(3):
        first.apply(gradients(seed), with_bad)
        first.apply(nothing, with_bad)
        second.apply(gradients(seed), without)
    assert same(values(with_bad), values(without))
    assert skipped_steps(first) == 4


def test_a_bad_batch_inside_fit_is_skipped(recwarn):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(optimizer=GuardedAdamW(1e-2), loss="mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    y = np.zeros((8, 3), "float32")
    model.fit(x, y, verbose=0, epochs=2)
    before = model.get_weights()
    model.fit(np.where(x > 0, np.nan, x), y, verbose=0)
    assert same(model.get_weights(), before)
    assert skipped_steps(model.optimizer) == 1


def test_only_kernels_are_decayed():
    ours = variables()
    start = values(ours)
    optimizer = GuardedAdamW(0.1, weight_decay=0.5)
    optimizer.apply([keras.ops.zeros((3, 2)), keras.ops.zeros(2)], ours)
    kernel, bias = values(ours)
    assert kernel == pytest.approx(start[0] * (1 - 0.1 * 0.5), rel=1e-6)
    assert np.array_equal(bias, start[1])


def test_it_goes_to_json_and_back_and_refuses_a_second_way_to_clip():
    optimizer = GuardedAdamW(1e-3, weight_decay=0.02, clip_norm=0.7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.clip_norm == 0.7
    with pytest.raises(ValueError, match="clips by clip_norm"):
        GuardedAdamW(1e-3, global_clipnorm=1.0)
