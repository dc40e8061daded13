from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.model_folder import ModelFolderError, load_composed, load_stage, read_settings, stage_hash
from kspecsr.training import epoch_end
from kspecsr.training.data import TrainingData
from kspecsr.training.options import TrainingOptions
from kspecsr.training.output_folder import OutputError, check_room, only_run
from kspecsr.training.run_settings import UpstreamError
from kspecsr.training.stage import train_stage, weights_digest
from kspecsr.training.state import StateError, read_progress
from training_sample import simulated, tiny_preset

QUIET = TrainingOptions(pictures=False)


def silent(line):
    pass


def train(stage, output, preset=None, options=QUIET, report=silent):
    preset = preset or tiny_preset()
    return train_stage(stage, preset, simulated(preset), output, options, report)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with all three stages, its lines, and the digest of sr1 and zhead as they were trained."""
    output, lines, digests = tmp_path_factory.mktemp("run"), [], {}
    options = replace(QUIET, pictures=True)
    for stage in ("sr1", "zhead", "sr2"):
        train(stage, output, options=options, report=lines.append)
        digests[stage] = weights_digest({stage: load_stage(output, stage)})
    return output, lines, digests


def test_a_run_folder_is_complete_and_says_what_it_is_made_of(run):
    output, lines, _ = run
    settings = read_settings(output)
    assert list(settings.stages) == ["sr1", "zhead", "sr2"]
    assert settings.preset.model == tiny_preset().model
    sr2 = settings.stages["sr2"]
    assert sr2["upstream"] == {stage: stage_hash(output, stage) for stage in ("sr1", "zhead")}
    assert sr2["data"]["data"] == "simulation"
    assert len(sr2["data_sha256"]) == 64
    for stage in settings.stages:
        assert (output / stage / "history.csv").read_text().count("\n") == 3
        assert len(list((output / stage / "pictures").glob("*.png"))) == 2
        assert list((output / stage / "tensorboard").glob("events*"))
    text = "\n".join(lines)
    assert "jit_compile False" in text
    for word in ("error/cubic", "NMAD", "recovery", "coverage", "spectra/s", "input wait"):
        assert word in text


def test_frozen_stages_are_bit_for_bit_what_they_were_before_the_next_ones_were_trained(run):
    output, _, digests = run
    for stage, digest in digests.items():
        assert weights_digest({stage: load_stage(output, stage)}) == digest


def test_later_stage_on_another_grid_is_refused_and_both_grids_are_named(run):
    output, _, _ = run
    other = tiny_preset(UnifiedGrid(1.0, 2.2, 500.0))
    with pytest.raises(ModelFolderError, match=r"1-2 um .* 1-2.2 um"):
        train("zhead", output, other, replace(QUIET, restart=True))


def test_a_missing_earlier_stage_is_named(tmp_path):
    with pytest.raises(UpstreamError, match=r"zhead is trained on sr1, but .* no sr1.keras.*--stage all"):
        train("zhead", tmp_path)


def test_earlier_stage_of_another_network_is_refused(run):
    output, _, _ = run
    preset = tiny_preset()
    wider = replace(preset, model=replace(preset.model, sr1=replace(preset.model.sr1, channels=12)))
    with pytest.raises(UpstreamError, match=r"model\.sr1 differs"):
        train("zhead", output, wider, replace(QUIET, restart=True))


def test_output_that_cannot_be_written_or_has_no_room_is_an_error_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("")
    lines = []
    with pytest.raises(OutputError, match=r"file/sr1: .*give another --output"):
        train("sr1", tmp_path / "file", report=lines.append)
    assert lines == []
    with pytest.raises(OutputError, match=r"with 1000000000000 MB of room"):
        check_room(tmp_path, 10**18)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_runs_in_one_folder_are_refused(tmp_path):
    (tmp_path / "sr1").mkdir()
    with only_run(tmp_path / "sr1"), pytest.raises(OutputError, match="another training is at work"):
        train("sr1", tmp_path)


def test_a_finished_stage_is_left_alone_and_other_settings_are_refused(run):
    output, _, _ = run
    before, lines = stage_hash(output, "sr1"), []
    train("sr1", output, report=lines.append)
    assert lines[-1].startswith("sr1: finished before (all 2 epochs done)")
    assert stage_hash(output, "sr1") == before
    with pytest.raises(StateError, match=r"training.epochs was 2, now 9.*--restart"):
        train("sr1", output, tiny_preset(epochs=9))


def test_best_weights_survive_an_interruption_and_worse_epochs(tmp_path, monkeypatch):
    goals = iter([3.0, 1.0, 0.5, 2.0, 2.5])
    monkeypatch.setattr(
        epoch_end,
        "goal_metrics",
        lambda *_: {"error_ratio": 1.0, "typical_ratio": 1.0, "coverage": 0.68, "goal": next(goals)},
    )
    preset = tiny_preset(epochs=4)

    def interrupt_third(line):
        if "epoch 3/4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("sr1", tmp_path, preset, report=interrupt_third)
    assert read_progress(tmp_path / "sr1" / "state.npz").best_goal == 1.0
    # the third epoch is done again, worse this time
    result = train("sr1", tmp_path, preset)
    assert result.progress.best_epoch == 2
    assert result.progress.best_goal == 1.0
    rows = (tmp_path / "sr1" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3", "4"]


def test_training_stops_where_nothing_improves(tmp_path, monkeypatch):
    monkeypatch.setattr(
        epoch_end,
        "goal_metrics",
        lambda *_: {"error_ratio": 1.0, "typical_ratio": 1.0, "coverage": 0.68, "goal": 1.0},
    )
    result = train("sr1", tmp_path, tiny_preset(epochs=9, patience=2))
    assert result.progress.epoch == 3
    assert result.progress.best_epoch == 1
    assert result.progress.stopped == "no better goal for 2 epochs"


def test_fine_tuning_starts_from_the_given_weights_and_brings_its_earlier_stages(run, tmp_path):
    output, _, digests = run
    preset = tiny_preset(epochs=1, steps_per_epoch=1, learning_rate=1e-30)
    train("zhead", tmp_path, preset, replace(QUIET, init_from=output))
    assert stage_hash(tmp_path, "sr1")
    ours, first = (load_stage(folder, "zhead").get_weights() for folder in (tmp_path, output))
    for a, b in zip(ours, first, strict=True):
        assert np.array_equal(a, b)
    assert weights_digest({"sr1": load_stage(tmp_path, "sr1")}) == digests["sr1"]


@pytest.mark.parametrize("option", ["init_from", "upstream"])
def test_a_last_stage_on_the_stages_of_another_model_is_a_model_that_loads(run, tmp_path, option):
    output, _, _ = run
    preset = tiny_preset(epochs=1, steps_per_epoch=1)
    train("sr2", tmp_path, preset, replace(QUIET, **{option: output}))
    before, now = read_settings(output).stages, read_settings(tmp_path).stages
    for stage in ("sr1", "zhead"):
        assert stage_hash(tmp_path, stage) == stage_hash(output, stage)
        assert now[stage] == before[stage]
    assert load_composed(tmp_path).count_params() == load_composed(output).count_params()


def test_weights_without_a_training_to_go_on_with_are_not_overwritten(run, tmp_path):
    output, _, _ = run
    (tmp_path / "sr1.keras").write_bytes((output / "sr1.keras").read_bytes())
    with pytest.raises(StateError, match="no training of it to go on with; give --restart"):
        train("sr1", tmp_path)


def test_stages_of_a_run_see_galaxies_of_their_own_and_are_judged_by_the_same_ones():
    preset = tiny_preset()
    first, second = simulated(preset, seed=1), simulated(preset, seed=2)
    batches = []
    for data, stage in ((first, "sr1"), (first, "zhead"), (second, "sr1")):
        with data.open(stage, 4) as feed:
            batches.append(next(feed)["prism_flux"])
    assert not np.array_equal(batches[0], batches[1])
    assert not np.array_equal(batches[0], batches[2])
    judged = [data.validation("sr2", 4) for data in (first, second)]
    assert np.array_equal(judged[0]["prism_flux"], judged[1]["prism_flux"])
    given = np.isfinite(judged[0]["redshift"])
    assert given[::2].sum() == np.isfinite(judged[0]["true_redshift"][::2]).sum()
    assert not given[1::2].any()


def test_records_on_another_grid_are_refused(tmp_path):
    data = TrainingData(tmp_path, tiny_preset().feed, tiny_preset().model.grid)
    with pytest.raises(FileNotFoundError):
        train_stage("sr1", tiny_preset(), data, tmp_path / "out", QUIET, silent)
