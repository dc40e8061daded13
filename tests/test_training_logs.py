import csv

import pytest

from data_pipeline.records.shards import read_records
from kspecsr import train
from kspecsr.configuration import PRESETS, Preset, load_preset
from kspecsr.training.logs import TensorBoardScalars, append_history, epoch_line

ROW = {
    "epoch": 3,
    "loss": 1.25,
    "nmad": 0.00123,
    "outliers_0.15": 0.042,
    "outliers_0.01": 0.09,
    "confident_outliers": 0.01,
    "coverage": 0.66,
    "goal": 0.2,
    "spectra_per_second": 44.04,
    "input_wait": 0.0041,
    "skipped_steps": 2,
}


def test_an_epoch_is_one_line_with_the_physical_metrics():
    assert epoch_line("zhead", ROW, 30, True) == (
        "zhead epoch 3/30  loss 1.2500  NMAD 0.00123  dz>0.15 4.2%  dz>0.01 9.0%  "
        "wrong though confident 1.0%  coverage 0.660  goal 0.2000 best  44.0 spectra/s  "
        "input wait 0.4%  skipped steps 2"
    )


def test_history_drops_rows_of_epochs_that_are_done_again(tmp_path):
    path = tmp_path / "history.csv"
    for epoch in (1, 2, 3, 2):
        append_history(path, {"epoch": epoch, "loss": 10.0 * epoch, **({"new": 1} if epoch == 3 else {})})
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["loss"]) for row in rows] == [("1", "10.0"), ("2", "20.0")]


def test_tensorboard_scalars_are_read_back(tmp_path):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    scalars = TensorBoardScalars(tmp_path, "tensorflow")
    scalars.write({"epoch": 4, "goal": 0.5})
    scalars.close()
    (path,) = tmp_path.glob("events*")
    events = [event_pb2.Event.FromString(bytes(record)) for record in read_records(path)]
    values = {
        v.tag: (event.step, float(tf.make_ndarray(v.tensor))) for event in events for v in event.summary.value
    }
    assert values["goal"] == (4, 0.5)
    other = TensorBoardScalars(tmp_path / "none", "jax")
    other.write({"epoch": 1, "goal": 0.5})
    other.close()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--preset", "nonsense"], 2, "neither a file nor one of the shipped presets"),
        (["--data", "nowhere"], 2, "--data nowhere: no manifest.json there"),
        (["--epochs", "0"], 2, "training.epochs"),
        (["--devices", "3"], 2, "the batch of 16 is no multiple of it"),
        (["--stage", "sr2", "--output", "{}/run"], 1, "sr2 is trained on sr1 and zhead"),
        (["--stage", "sr1", "--output", "{}/file/run"], 1, "Not a directory"),
        (["--stage", "sr1", "--init-from", "{}/none", "--output", "{}/run"], 1, "none"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_status(options, status, message, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert train.main([option.format(tmp_path) for option in options]) == status
    error = capfd.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_shown_preset_is_as_shipped(capsys):
    assert train.main(["--show-preset", "--preset", "first"]) == 0
    assert Preset.from_json(capsys.readouterr().out) == PRESETS["first"]


def test_the_shown_preset_is_read_again_with_the_options_in_it(tmp_path, capsys):
    options = ["--show-preset", "--stage", "sr2", "--epochs", "7", "--init-from", "model"]
    assert train.main(options) == 0
    path = tmp_path / "own.json"
    path.write_text(capsys.readouterr().out)
    preset, default = load_preset(path), load_preset("default")
    assert preset.training["sr2"].epochs == 7
    # fine-tuning has a tenth of the learning rate
    assert preset.training["sr2"].learning_rate == pytest.approx(0.1 * default.training["sr2"].learning_rate)
    assert preset.training["sr1"] == default.training["sr1"]
