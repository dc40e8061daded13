"""Trials for TensorBoard's HParams page, written without TensorFlow, which would take the GPU."""

import shutil
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api
from tensorboard.plugins.hparams.summary_v2 import hparams_config_pb, hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tuning.space import Axis
from tuning.trial_record import OBJECTIVE, TrialRecord

FOLDER = "tensorboard"


def log_experiment(folder: Path, axes: tuple[Axis, ...]) -> None:
    """Write the axes and the names of the metrics, once.

    Args:
        folder: folder of the study.
        axes: axes of the search.
    """
    where = folder / FOLDER
    if any(where.glob("events.*")):
        return
    parameters = [api.HParam(axis.name, _domain(axis)) for axis in axes]
    metrics = [api.Metric(OBJECTIVE, display_name="goal (lower is better)"), api.Metric("epochs")]
    _write(where, [(0, hparams_config_pb(parameters, metrics))])


def log_trial(folder: Path, axes: tuple[Axis, ...], record: TrialRecord) -> None:
    """Write a trial that has ended: its values, and its goal after each epoch.

    Args:
        folder: folder of the study.
        axes: axes of the search.
        record: trial.
    """
    where = folder / FOLDER / record.name
    shutil.rmtree(where, ignore_errors=True)  # events of an earlier start
    values = {axis.name: record.values[axis.name] for axis in axes}
    summaries = [(0, hparams_pb(values, trial_id=f"trial {record.name}", start_time_secs=0))]
    for epoch in sorted(record.curve):
        summaries.append((epoch, _scalar(OBJECTIVE, record.curve[epoch])))
        summaries.append((epoch, _scalar("epochs", float(epoch))))
    _write(where, summaries)


def _scalar(tag: str, value: float) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _write(where: Path, summaries: list[tuple[int, Summary]]) -> None:
    where.mkdir(parents=True, exist_ok=True)
    writer = EventFileWriter(str(where))
    for step, summary in summaries:
        # TensorBoard's class and TensorFlow's are two for Python, but the same bytes
        writer.add_event(Event(step=step, summary=Summary.FromString(summary.SerializeToString())))
    writer.close()


def _domain(axis: Axis) -> api.Discrete | api.RealInterval | api.IntInterval:
    if axis.choices:
        return api.Discrete(list(axis.choices))
    if axis.step:
        return api.IntInterval(int(axis.low), int(axis.high))
    return api.RealInterval(float(axis.low), float(axis.high))
