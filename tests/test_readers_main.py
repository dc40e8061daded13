import resource
import subprocess
import sys
from pathlib import Path

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
    assert "0 of 2 files read" in out
    assert "none.fits: no such file" in err and "is a directory" in err


def test_help_shows_formats_and_examples_within_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "data_pipeline.readers", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "jades-dr4" in run.stdout and "examples:" in run.stdout
    # processor time: the clock on the wall also counts what else the machine does
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0
