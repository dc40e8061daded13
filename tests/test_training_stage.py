import os
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr import train as train_command
from kspecsr.configuration import Preset
from kspecsr.model_folder import ModelFolderError, load_composed, load_stage, read_settings, stage_hash
from kspecsr.training.data import TrainingData
from kspecsr.training.output_folder import OutputError, check_room, only_run, sweep
from kspecsr.training.run_settings import UpstreamError
from kspecsr.training.stage import begin_again, train_stage, weights_digest
from kspecsr.training.state import StateError, read_progress
from training_sample import QUIET, assert_published, silent, simulated, tiny_preset, train, untraced

pytestmark = pytest.mark.usefixtures("not_compiled")  # but for the fixture of the module, which comes first


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with all three stages, its lines, and the digests of the stages as they were trained."""
    top, lines, digests = tmp_path_factory.mktemp("run"), [], {}
    output, options = top / "whole", replace(QUIET, pictures=True)

    def note(line):
        lines.append(line)
        if line.startswith("sr2 epoch 2/2"):  # its state is not saved yet
            shutil.copytree(output, top / "killed_in_sr2")

    for stage in ("sr1", "zhead", "sr2"):
        # the last one holds the others; the first alone is traced in `test_training_resume`
        with nullcontext() if stage == "sr2" else untraced():
            train(stage, output, options=options, report=note)
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
    with only_run(tmp_path), pytest.raises(OutputError, match="another training is at work"):
        train("sr1", tmp_path)


def test_a_finished_stage_is_left_alone_and_other_settings_are_refused(run):
    output, _, _ = run
    before, lines = stage_hash(output, "sr1"), []
    train("sr1", output, report=lines.append)
    assert lines[-1].startswith("sr1: finished before (all 2 epochs done)")
    assert stage_hash(output, "sr1") == before
    with pytest.raises(StateError, match=r"training.epochs was 2, now 9.*--restart"):
        train("sr1", output, tiny_preset(epochs=9))


@pytest.mark.long
def test_sr2_killed_in_an_epoch_ends_with_the_same_weights(run):
    output, _, _ = run
    killed = output.parent / "killed_in_sr2"
    # as the run of the module was: what is not traced differs in the last bits
    tf.config.run_functions_eagerly(False)
    train("sr2", killed)
    with np.load(output / "sr2" / "state.npz") as one, np.load(killed / "sr2" / "state.npz") as other:
        assert one.files == other.files
        for name in set(one.files) - {"progress"}:
            assert np.array_equal(one[name], other[name]), name
    assert_published(killed, "sr2")


def test_patience_is_an_option_of_the_command(capsys):
    assert train_command.main(["--stage", "zhead", "--patience", "3", "--show-preset"]) == 0
    training = Preset.from_json(capsys.readouterr().out).training
    assert [training[stage].patience for stage in ("sr1", "zhead")] == [0, 3]


@pytest.mark.parametrize("restart", [False, True])
def test_interrupted_the_command_says_what_goes_on(monkeypatch, capsys, tmp_path, restart):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "_run", interrupt)
    options = ["--data", "simulation", "--output", str(tmp_path), *(["--restart"] if restart else [])]
    assert train_command.main(options) == 130
    assert ("rerun the same command without --restart to resume" in capsys.readouterr().err) is restart


def test_fine_tuning_starts_from_the_given_weights_and_brings_its_earlier_stages(run, tmp_path):
    output, _, digests = run
    preset = tiny_preset(epochs=1, steps_per_epoch=1, learning_rate=1e-30)
    train("zhead", tmp_path, preset, replace(QUIET, init_from=output))
    assert stage_hash(tmp_path, "sr1")
    ours, first = (load_stage(folder, "zhead").get_weights() for folder in (tmp_path, output))
    for a, b in zip(ours, first, strict=True):
        assert np.array_equal(a, b)
    assert weights_digest({"sr1": load_stage(tmp_path, "sr1")}) == digests["sr1"]


def test_first_weights_of_another_grid_or_another_models_stages_are_refused(run, tmp_path):
    output, _, _ = run
    other = tiny_preset(UnifiedGrid(1.0, 2.2, 500.0))
    with pytest.raises(ModelFolderError, match=r"sr1 on the grid 1-2 um .* 1-2.2 um"):
        train("sr1", tmp_path, other, replace(QUIET, init_from=output))
    preset = tiny_preset(epochs=1, steps_per_epoch=1)
    train("sr1", tmp_path, preset)
    ours, theirs = (stage_hash(folder, "sr1")[:12] for folder in (tmp_path, output))
    with pytest.raises(UpstreamError, match=rf"another sr1 \(SHA-256 {ours}\) than .*\({theirs}\)"):
        train("zhead", tmp_path, preset, replace(QUIET, restart=True, init_from=output))
    with pytest.raises(UpstreamError, match=rf"zhead was trained on another sr1 \(SHA-256 {theirs}\)"):
        train("sr2", tmp_path, preset, replace(QUIET, upstream=output))
    # a stage that was fine-tuned from the other model belongs to it
    train("sr1", tmp_path, preset, replace(QUIET, restart=True, init_from=output))
    train("zhead", tmp_path, preset, replace(QUIET, init_from=output))


def test_what_a_killed_run_left_is_swept_and_the_rest_stays(tmp_path):
    (tmp_path / ".sr1-abc.part").mkdir()
    (tmp_path / ".sr1-abc.part" / "sr1.keras").write_text("half")
    (tmp_path / "sr1").mkdir()
    (tmp_path / "sr1" / ".state.npz.1.part").write_text("half")
    for kept in ("model.json", "sr1/state.npz", "mine.part"):
        (tmp_path / kept).write_text("whole")
    sweep(tmp_path, ("sr1", "zhead"))
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"model.json", "sr1", "sr1/state.npz", "mine.part"}


def test_room_is_checked_where_the_system_cannot_reserve_it(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    check_room(tmp_path, 1000)
    with pytest.raises(OutputError, match=r"No space left.*with 1000000000000 MB of room"):
        check_room(tmp_path, 10**18)


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


def test_beginning_again_forgets_all_stages_at_once_and_keeps_their_weights(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "again")
    begin_again(tmp_path / "again", ("sr1", "zhead", "sr2"))
    for stage in ("sr1", "zhead", "sr2"):
        assert read_progress(tmp_path / "again" / stage / "state.npz").epoch == 0
        assert not (tmp_path / "again" / stage / "history.csv").exists()
    load_composed(tmp_path / "again")
