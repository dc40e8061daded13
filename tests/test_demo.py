import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.records import verify_records
from examples.demo_data import PARTS, main
from examples.demonstration import MARKER, DemoError, prepare, run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "examples.demo_data", "--output", str(folder), "--n", "10"]
    result = subprocess.run(
        [*command, "--realisations", "2", "--workers", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder, result


def test_demo_makes_an_archive_whole_records_and_four_pictures(demo):
    folder, _ = demo
    assert sum(1 for _ in (folder / "archive").rglob("*clear-prism*_x1d.fits")) == 10
    manifest = verify_records(folder / "records", progress=False)
    assert manifest.count("train") % 3 == 0  # each original and its two copies
    names = sorted(p.name.split("_")[0] for p in (folder / "pictures").iterdir())
    assert names == ["augmentation", "hlsp", "pair", "stitching"]
    for picture in (folder / "pictures").iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 30_000


def test_demo_shows_commands_shapes_and_what_comes_next(demo):
    folder, result = demo
    for command in (
        "simulate --archive",
        "build --archive",
        "records ",
        "inspect --archive",
        "inspect --records",
    ):
        assert f"$ python -m data_pipeline.{command}" in result.stdout
    assert "(8, 706)" in result.stdout and "(8, 6074)" in result.stdout
    assert "the same numbers as NumPy's" in result.stdout
    assert "2 realisations of each training galaxy, for speed" in result.stdout
    assert result.stdout.index("Made in") < result.stdout.index("Next:")
    for path in (folder / "pictures").iterdir():
        assert str(path) in result.stdout
    assert "oneDNN" not in result.stderr  # TensorFlow's chatter


def test_an_earlier_demo_is_emptied_and_nothing_else(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    folder = tmp_path / "demo"
    prepare(folder, PARTS)
    (folder / "archive").mkdir()
    (folder / "archive" / "old.fits").write_text("x")
    (folder / "records").symlink_to(outside)
    (folder / "notes.txt").write_text("mine")
    prepare(folder, PARTS)
    assert sorted(p.name for p in folder.iterdir()) == sorted([MARKER, "notes.txt"])
    assert (outside / "precious").read_text() == "x"
    assert all(part in (folder / MARKER).read_text() for part in PARTS)


def test_a_folder_of_somebody_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert main(["--output", str(tmp_path)]) == 1
    assert "is not empty and was not made by this demo; choose another --output" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    assert main(["--output", str(tmp_path / "thesis.tex")]) == 1
    assert "is a file; give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--realisations", "-1"], ["--workers", "0"]])
def test_counts_that_make_no_demo_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path / "demo"), *arguments])
    assert "expected --n and --workers of 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_step_that_fails_is_named(tmp_path, capfd):
    with pytest.raises(DemoError, match=r"data_pipeline\.records ended with status 1"):
        run("data_pipeline.records", str(tmp_path))
    assert "no manifest.json" in capfd.readouterr().err


def test_interrupt_ends_the_running_step_and_the_next_run_may_start_afresh(tmp_path):
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "examples.demo_data", "--output", str(folder), "--n", "2000"]
    with subprocess.Popen(
        [*command, "--workers", "1"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        limit = time.monotonic() + 60
        while not (folder / "archive" / "simulation.json").is_file() and time.monotonic() < limit:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted; the same command starts afresh" in err
    assert "Made in" not in out
    # the step has ended, too: nothing is written any more, and the folder is the demo's to empty
    prepare(folder, PARTS)
    time.sleep(0.5)
    assert [p.name for p in folder.iterdir()] == [MARKER]
