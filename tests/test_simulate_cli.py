"""Command line of the simulator."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.simulate import main
from data_pipeline.workers import WorkerError

ROOT = Path(__file__).resolve().parents[1]


def test_help_answers_fast_and_shows_examples():
    times = []
    for _ in range(2):  # the first call may have to compile
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "data_pipeline.simulate", "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        times.append(time.perf_counter() - start)
    assert done.returncode == 0
    assert "--archive simulated --n 300 --seed 1" in done.stdout
    assert min(times) < 2.5  # 1 s on an idle machine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--archive", "x", "--n", "0"], "--n: expected 1 or more, got 0"),
        (["--check", "--workers", "0"], "--workers: expected 1 or more, got 0"),
        (["--check", "--population", "narrow"], "invalid choice: 'narrow'"),
        (["--check", "--lines", "third"], "invalid choice: 'third'"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do: give --archive DIR --n N or --check"),
        (["--archive", "x"], "--archive needs --n"),
        (["--archive", "x", "--n", "1", "--check-output", "y"], "--check-output goes with --check"),
    ],
)
def test_options_that_do_not_go_together_are_explained(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_wrong_configuration_is_explained(tmp_path, capsys):
    (tmp_path / "c.json").write_text('{"nuisances": {"noise": 1}}')
    assert main(["--archive", str(tmp_path / "a"), "--n", "1", "--config", str(tmp_path / "c.json")]) == 2
    assert "c.json: nuisances: unknown key noise" in capsys.readouterr().err
    assert main(["--archive", str(tmp_path / "a"), "--n", "1", "--noise-scale", "-1"]) == 2
    assert "noise_scale: expected zero or more, got -1" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "seed: expected a whole number from 0 to 2**63 - 1, got -1"),
        (["--seed", str(2**63)], "seed: expected a whole number"),
        (["--noise-scale", "nan"], "noise_scale: expected a finite number, got nan"),
        (["--noise-scale", "inf"], "noise_scale: expected a finite number, got inf"),
        (["--config", "."], "configuration . is a directory; expected a JSON file"),
    ],
)
def test_settings_are_checked_before_anything_is_written(arguments, message, tmp_path, capsys):
    assert main(["--archive", str(tmp_path / "a"), "--n", "1", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_places_that_cannot_be_written_are_named(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "sub"):
        assert main(["--archive", str(place), "--n", "1"]) == 1
        error = capsys.readouterr().err
        assert str(place) in error and "take folders that can be written" in error
        assert error.count("\n") == 1


def test_the_output_of_the_check_is_tried_before_the_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        "benchmarks.simulation_measurements.measure_simulation",
        lambda *_: pytest.fail("worked first"),
    )
    assert main(["--check", "--check-output", str(tmp_path / "file" / "sub")]) == 1
    assert f"{tmp_path / 'file' / 'sub'}: Not a directory" in capsys.readouterr().err


def test_a_full_disk_and_a_dead_worker_are_one_line(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("data_pipeline.simulation.archive.write_archive", full)
    assert main(["--archive", str(tmp_path), "--n", "1"]) == 1
    assert f"error: {tmp_path}: No space left on device. --archive" in capsys.readouterr().err

    def dead(*_, **__):
        raise WorkerError("a worker process died")

    monkeypatch.setattr("data_pipeline.simulation.archive.write_archive", dead)
    assert main(["--archive", str(tmp_path), "--n", "1"]) == 1
    assert capsys.readouterr().err == "error: a worker process died\n"


def test_an_interrupt_promises_no_more_than_it_keeps(tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_pipeline.simulation.archive.write_archive", interrupt)
    monkeypatch.setattr("benchmarks.simulation_picture.measure_simulation", interrupt)
    assert main(["--archive", str(tmp_path), "--n", "1"]) == 130
    assert "rerun the same command to resume" in capsys.readouterr().err
    assert main(["--check", "--n", "1"]) == 130
    error = capsys.readouterr().err
    assert "interrupted; nothing was written" in error and "resume" not in error


def test_archive_with_options(tmp_path, capsys):
    root = tmp_path / "archive"
    arguments = ["--archive", str(root), "--n", "2", "--seed", "5", "--population", "wide", "--workers", "1"]
    assert main([*arguments, "--noise-scale", "0", "--lines", "second"]) == 0
    assert "2 observations in" in capsys.readouterr().out
    text = (root / "simulation.json").read_text()
    assert '"name": "wide"' in text
    assert '"noise_scale": 0.0' in text and '"lines": "second"' in text


def test_check_prints_and_draws(tmp_path, capsys):
    assert main(["--check", "--n", "32", "--check-output", str(tmp_path / "check")]) == 0
    out = capsys.readouterr().out
    assert "outside their tolerance" in out
    assert (tmp_path / "check" / "simulation_check.txt").read_text() in out
    assert (tmp_path / "check" / "simulation_check.png").read_bytes().startswith(b"\x89PNG")
