"""A model as it is published: whole, with a manifest that finds what was altered, and figures of its own."""

import json
import shutil

import pytest

from benchmarks.robustness_cases import COLUMNS
from enhancement_sample import write_stand_in_folder
from kspecsr.configuration.calibration import Calibration
from kspecsr.evaluation.model_card import _public
from kspecsr.measures.gate import Gate, shipped_gate
from kspecsr.model_folder import check_manifest, write_manifest
from kspecsr.model_settings import ModelFolderError, read_settings, weights_hash, write_calibration
from kspecsr.publish import main


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """A calibrated stand-in model and figures of it."""
    model = write_stand_in_folder(tmp_path / "model")
    for stage in ("sr1", "zhead", "sr2"):
        shutil.make_archive(str(model / stage), "zip", tmp_path, ".")
        (model / f"{stage}.zip").rename(model / f"{stage}.keras")
    write_calibration(model, Calibration(measured_on={"galaxies": 1234}))
    monkeypatch.setattr("kspecsr.evaluation.model_card._parameters", lambda model: 2_345_678)

    def estimate(value):
        return {"value": value, "low": 0.9 * value, "high": 1.1 * value, "n": 77, "galaxies": 70}

    report = tmp_path / "report"
    report.mkdir()
    figures = {"redshift_nmad": estimate(0.00031), "recovery": estimate(0.99), "fwhm_ratio": estimate(1.2)}
    metrics = {
        "command": "kspecsr evaluate --n 2000",
        "model": {"sha256": weights_hash(model)},
        "galaxies": 2000,
        "metrics": {name: figures for name in ("sr2", "sr2_known_z", "direct_fit", "truth_found_z")},
    }
    (report / "metrics.json").write_text(json.dumps(metrics))
    case = {"title": "a stretch missing", "metrics": {"sr2/recovery": estimate(0.93)}}
    robustness = {
        "model": weights_hash(model),
        "galaxies": 55,
        "cases": {"gap": case},
        "columns": [vars(column) for column in COLUMNS],
    }
    (report / "robustness.json").write_text(json.dumps(robustness))
    (tmp_path / "failures.md").write_text("- Fails at full moon.\n")
    return model, report


def publish(model, report, output):
    return main(
        [
            str(model),
            *("--report", str(report), "--robustness", str(report), "--output", str(output)),
            *("--failures", str(report.parent / "failures.md")),
        ]
    )


def test_a_published_model_has_its_name_its_card_and_a_manifest(judged, tmp_path, capsys):
    model, report = judged
    output = tmp_path / "saved" / "default"
    assert publish(model, report, output) == 0
    assert "with its model card and manifest" in capsys.readouterr().out
    assert read_settings(output).name == "default"
    assert weights_hash(output) == weights_hash(model)
    card = (output / "README.md").read_text()
    for text in (
        "2,345,678 parameters",
        "1,234 further simulated galaxies",
        weights_hash(model),
        "0.00031 (0.00028 to 0.00034; n 77)",
        "| sr2/redshift_nmad | 0.00031 | 0.000279 to 0.000341 | 77 | 0.00031 | – | at most 0.00031 |",
        "sr2/fwhm_ratio: 1.2, expected 0.95 to 1.05",
        "a stretch missing",
        "0.93",
        "Fails at full moon",
        "--calibrate",
        "Licence: MIT",
    ):
        assert text in card
    check_manifest(output)
    assert set(json.loads((output / "manifest.json").read_text())["files"]) == {
        *("sr1.keras", "zhead.keras", "sr2.keras"),
        *("model.json", "calibration.json", "README.md"),
    }
    assert publish(model, report, output) == 0  # replaces itself
    assert [path.name for path in output.parent.iterdir()] == ["default"]


def test_figures_of_another_model_and_a_model_without_calibration_are_refused(judged, tmp_path, capsys):
    model, report = judged
    write_calibration(model, Calibration(redshift_exponent=1.3, measured_on={"galaxies": 9}))
    assert publish(model, report, tmp_path / "new") == 1
    assert "figures of another model" in capsys.readouterr().err
    (model / "calibration.json").unlink()
    assert publish(model, report, tmp_path / "new") == 1
    assert "kspecsr calibrate" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_somebody_elses_folder_is_not_replaced(judged, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    assert publish(*judged, tmp_path / "thesis") == 1
    assert "exists and is no model folder" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_a_folder_that_cannot_be_replaced_comes_back(judged, tmp_path, monkeypatch, capsys):
    model, report = judged
    output = tmp_path / "saved" / "default"
    assert publish(model, report, output) == 0
    before = sorted(path.name for path in output.iterdir())
    rename = type(output).rename

    def full(path, target):
        if path.parent != output.parent and target == output and not path.name == "before":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(type(output), "rename", full)
    assert publish(model, report, output) == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == before


def test_training_calibrates_where_it_is_asked_to(tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace

    from kspecsr import train

    calls = []
    monkeypatch.setattr(
        "kspecsr.training.stage.train_stage", lambda stage, *_: SimpleNamespace(path=f"{stage}.keras")
    )
    monkeypatch.setattr(
        "kspecsr.evaluation.calibrate.calibrate_model",
        lambda *given: calls.append(given) or (None, "done.json"),
    )
    options = ["--preset", "small", "--data", "simulation", "--output", str(tmp_path)]
    assert train.main(options) == 0 and calls == []
    assert train.main([*options, "--calibrate"]) == 0
    assert calls[0][0] == tmp_path
    assert "calibration: done.json" in capsys.readouterr().out


def test_an_altered_or_missing_file_is_named(tmp_path):
    for name in ("a.keras", "b.keras"):
        (tmp_path / name).write_bytes(b"weights")
    check_manifest(tmp_path)  # without one there is nothing to compare
    write_manifest(tmp_path)
    check_manifest(tmp_path)
    (tmp_path / "a.keras").write_bytes(b"weighty")
    with pytest.raises(ModelFolderError, match=r"a\.keras: SHA-256 .* get an unaltered copy, or remove"):
        check_manifest(tmp_path)
    (tmp_path / "a.keras").unlink()
    with pytest.raises(ModelFolderError, match=r"a\.keras: no such file, but manifest\.json lists it"):
        check_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ModelFolderError, match=r"manifest\.json: cannot be read"):
        check_manifest(tmp_path)


def test_the_release_gate_ships_and_is_narrower_than_the_default_one():
    release, default = shipped_gate("release"), shipped_gate("default")
    assert Gate.find("release") == release and Gate.find("default") == default
    wider = default.evaluation
    assert len(release.evaluation) >= 20
    shared = [name for name in release.evaluation if name in wider and wider[name].high is not None]
    assert shared
    for name in shared:
        high = release.evaluation[name].high
        assert high is None or high <= wider[name].high, name


def test_the_command_of_the_card_names_no_place_of_the_machine_that_ran_it():
    ran = "kspecsr evaluate --model runs/fine3 --n 2000 --pairs ../private/pairs/pairs.csv --gate release"
    assert _public(ran, "default") == (
        "kspecsr evaluate --model saved_models/default --n 2000 --pairs pairs.csv --gate release"
    )
