import os
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks import stitching_check
from data_pipeline import compare
from data_pipeline.readers import read_spectrum
from data_pipeline.readers.__main__ import main
from layouts import LAYOUTS, example

ROOT = Path(__file__).resolve().parents[1]


def test_table_of_a_directory_and_its_bad_file(tmp_path, capsys):
    for layout in LAYOUTS.values():
        layout.emit(tmp_path / layout.file_name, *example())
    (tmp_path / "broken.fits").write_bytes(b"SIMPLE  = broken")
    assert main([str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    rows = out.splitlines()
    assert rows[0].split() == [
        "id",
        "disperser",
        "format",
        "extraction",
        "pixels",
        "masked",
        "median",
        "S/N",
        "file",
    ]
    assert rows[-1] == f"{len(LAYOUTS)} of {len(LAYOUTS) + 1} files read"
    row = next(row for row in rows if LAYOUTS["dja-v1"].file_name in row)
    name, disperser, kind, pixels, masked, ratio, file = row.split()
    assert (name, disperser, kind, int(pixels), float(masked)) == ("1181_39353", "PRISM", "dja", 50, 0.1)
    assert float(ratio) > 1 and file == LAYOUTS["dja-v1"].file_name
    assert "not read:" in err and "broken.fits[PRIMARY]" in err


def test_all_good_is_status_zero(tmp_path, capsys):
    layout = LAYOUTS["jades-dr4"]
    path = tmp_path / layout.file_name
    layout.emit(path, *example())
    assert main([str(path), "--extraction", "5pix"]) == 0
    assert " 5pix " in capsys.readouterr().out
    assert main([str(path), "--hdu", "1", "--flux-column", "FLUX_NOD2"]) == 0
    assert " 5pix " in capsys.readouterr().out


def test_missing_and_empty_paths_are_listed(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "none.fits"), str(tmp_path / "empty")]) == 1
    out, err = capsys.readouterr()
    assert "0 of 1 files read" in out
    assert "none.fits: no such file" in err
    assert f"{tmp_path / 'empty'}: no file below this directory ends in .fits" in err


def test_odd_paths_do_not_stop_the_batch(tmp_path, capsys):
    layout = LAYOUTS["jades-dr4"]
    good = tmp_path / layout.file_name
    layout.emit(good, *example())
    loop, pipe = tmp_path / "loop.fits", tmp_path / "pipe.fits"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    odd = [loop, pipe, good / "below.fits", tmp_path / ("n" * 300 + ".fits")]
    assert main([str(good), *map(str, odd), str(good)]) == 1
    out, err = capsys.readouterr()
    assert "2 of 6 files read" in out
    assert err.startswith("\n4 not read:\n") and err.count("\n  ") == 4
    for text in (
        "symbolic link",
        "pipe.fits: is a pipe, socket or device",
        "Not a directory",
        "File name too long",
    ):
        assert text in err


def test_notes_stand_below_the_row(tmp_path, capsys):
    layout = LAYOUTS["jades-dr4"]
    path = tmp_path / layout.file_name
    layout.emit(path, *example())
    assert main([str(path)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("    note: ")]
    assert notes == [f"    note: {note}" for note in read_spectrum(path).meta.notes]
    assert any("masked" in note for note in notes)


def test_an_interrupt_is_one_line(tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_pipeline.readers.__main__.read_spectrum", interrupt)
    assert main([str(tmp_path / "a.fits")]) == 130
    assert capsys.readouterr().err == "\ninterrupted; what was written is complete\n"
    for command, place in (
        (compare.main, "data_pipeline.compare.compare"),
        (stitching_check.main, "benchmarks.stitching_check.examine"),
    ):
        monkeypatch.setattr(place, interrupt)
        assert command(["--archive", str(tmp_path)]) == 130
        assert capsys.readouterr().err.startswith("\ninterrupted; nothing was")


def test_a_reader_that_left_ends_the_table_in_silence(tmp_path):
    layout = LAYOUTS["jades-dr4"]
    layout.emit(tmp_path / layout.file_name, *example())
    end, start = os.pipe()
    os.close(end)
    command = [sys.executable, "-m", "data_pipeline.readers", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, stdout=start, stderr=subprocess.PIPE, text=True)
    os.close(start)
    assert run.stderr == ""
    assert run.returncode == 1


def test_help_shows_formats_and_examples_within_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "data_pipeline.readers", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "jades-dr4" in run.stdout and "examples:" in run.stdout
    # a second where nothing else runs; the clock on the wall also counts what else the machine does
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 2.0
