import numpy as np
import pytest

from kspecsr.configuration import TrainingConfig
from kspecsr.training.optimizer import WarmUpCosine, learning_rate_schedule, teacher_probability


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def test_warm_up_is_linear_and_the_cosine_ends_at_the_final_share():
    schedule = WarmUpCosine(peak=2.0, steps=110, warmup=10, final=0.1)
    assert rates(schedule, range(10)) == pytest.approx(np.arange(1, 11) / 10 * 2.0)
    assert rates(schedule, [10, 60, 110, 500]) == pytest.approx([2.0, 2.0 * 0.55, 0.2, 0.2])
    falling = rates(schedule, range(10, 111))
    assert (np.diff(falling) < 0).all()


def test_settings_say_what_the_schedule_is_and_it_goes_to_json_and_back():
    config = TrainingConfig(epochs=4, steps_per_epoch=25, learning_rate=1e-3, warmup=0.2)
    schedule = learning_rate_schedule(config)
    assert schedule.get_config() == {"peak": 1e-3, "steps": 100, "warmup": 20, "final": 0.01}
    again = WarmUpCosine.from_config(schedule.get_config())
    assert rates(again, range(0, 100, 7)) == pytest.approx(rates(schedule, range(0, 100, 7)), rel=0)


def test_no_warm_up_starts_at_the_peak():
    assert float(WarmUpCosine(1.0, 10)(0)) == 1.0


def test_teacher_forcing_falls_linearly_from_first_to_last_step():
    config = TrainingConfig(epochs=3, steps_per_epoch=7, teacher_start=0.8, teacher_stop=0.2)
    values = [teacher_probability(step, config) for step in range(21)]
    assert values[0] == 0.8
    assert values[-1] == pytest.approx(0.2)
    assert np.diff(values) == pytest.approx(np.full(20, -0.03))
    assert teacher_probability(99, config) == pytest.approx(0.2)
