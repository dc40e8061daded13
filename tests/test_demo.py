import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import examples.__main__ as demo_module
from data_pipeline.jades_names import jades_file_name
from data_pipeline.records import verify_records
from data_pipeline.simulation import SimulationConfig, simulate_batch
from data_pipeline.simulation.truth import FOLDER, TruthReader, write_truth_chunk, write_truth_index
from examples.__main__ import DATA_PARTS, data, enhance, train, train_summary
from examples.demonstration import MARKER, DemoError, draw_best, prepare, redshift_table, run
from kspecsr.evaluation.figures.examples import draw_examples

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "examples", "data", "--output", str(folder), "--n", "10"]
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
        assert f"$ kspecsr data {command}" in result.stdout
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
    prepare(folder, DATA_PARTS)
    (folder / "archive").mkdir()
    (folder / "archive" / "old.fits").write_text("x")
    (folder / "records").symlink_to(outside)
    (folder / "notes.txt").write_text("mine")
    prepare(folder, DATA_PARTS)
    assert sorted(p.name for p in folder.iterdir()) == sorted([MARKER, "notes.txt"])
    assert (outside / "precious").read_text() == "x"
    assert all(part in (folder / MARKER).read_text() for part in DATA_PARTS)


@pytest.mark.parametrize("main", [data, enhance, train])
def test_a_folder_of_somebody_else_is_refused(main, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert main(["--output", str(tmp_path)]) == 1
    assert "is not empty and was not made by this demo; choose another --output" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    assert main(["--output", str(tmp_path / "thesis.tex")]) == 1
    assert "is a file; give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--realisations", "-1"], ["--workers", "0"]])
def test_counts_that_make_no_demo_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        data(["--output", str(tmp_path / "demo"), *arguments])
    assert f"argument {arguments[0]}: expected" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_step_that_fails_is_named(tmp_path, capfd):
    with pytest.raises(DemoError, match="kspecsr data records ended with status 1"):
        run("data records", tmp_path)
    assert "no manifest.json" in capfd.readouterr().err


def test_interrupt_ends_the_running_step_and_the_next_run_may_start_afresh(tmp_path):
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "examples", "data", "--output", str(folder), "--n", "2000"]
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
    prepare(folder, DATA_PARTS)
    time.sleep(0.5)
    assert [p.name for p in folder.iterdir()] == [MARKER]


@pytest.fixture
def commands(monkeypatch):
    """The steps of the demo, left out and noted."""
    ran = []
    monkeypatch.setattr(demo_module, "run", lambda *words: ran.append(words))
    monkeypatch.setattr(demo_module, "simulate_unseen", lambda *words: ran.append(("simulate", *words)))
    monkeypatch.setattr(demo_module, "redshift_table", lambda folder: "a table")
    monkeypatch.setattr(demo_module, "draw_best", lambda folder: folder / "recovered.png")
    return ran


def test_it_simulates_enhances_and_tabulates(commands, tmp_path, capsys):
    folder = tmp_path / "demo"
    assert enhance(["--output", str(folder), "--unseen", "3"]) == 0
    assert [words[0] for words in commands] == ["simulate", "enhance", "catalogue"]
    assert commands[0][1:3] == (folder / "unseen", 3)
    assert commands[1][1:] == (folder / "unseen", "--output", folder / "enhanced", "--plot")
    out = capsys.readouterr().out
    assert "a table" in out and "recovered.png" in out and "make demo-train" in out


def test_a_file_of_ones_own_is_super_resolved_instead(commands, tmp_path, capsys):
    assert enhance(["--output", str(tmp_path / "demo"), "--file", "my_prism.fits"]) == 0
    assert [words[0] for words in commands] == ["enhance", "catalogue"]
    assert commands[0][1] == "my_prism.fits"
    assert "recovered.png" not in capsys.readouterr().out


SEED, N = 16, 4


def write_result(path, batch, row, redshift):
    """The parts of a result that the demo reads: the truth itself, seen through a constant error."""
    primary = fits.PrimaryHDU()
    primary.header["Z"], primary.header["Z_CONF"], primary.header["CHI2NU"] = redshift, 0.9, 1.1
    primary.header["FLAGS"] = "" if redshift is not None else "NO_CLEAR_REDSHIFT"
    hdus = [primary]
    for name, wavelength, flux, error, mask in (
        ("SPEC1D", batch.wavelength, batch.noise_free[row], np.full(batch.wavelength.size, 1e-21), None),
        (
            "INPUT",
            batch.prism_wavelength,
            batch.prism_flux[row],
            batch.prism_error[row],
            batch.prism_mask[row],
        ),
    ):
        mask = np.zeros(wavelength.size, bool) if mask is None else mask
        columns = [
            fits.Column("WAVELENGTH", "D", array=wavelength),
            fits.Column("FLUX", "D", array=flux),
            fits.Column("FLUX_ERR", "D", array=error),
            fits.Column("MASK", "L", array=mask),
        ]
        hdus.append(fits.BinTableHDU.from_columns(columns, name=name))
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A demo's folder with four unseen galaxies, three of them super-resolved."""
    folder = tmp_path_factory.mktemp("demo")
    batch = simulate_batch(np.arange(N), SEED, SimulationConfig("survey"), gratings=False)
    (folder / "unseen" / FOLDER).mkdir(parents=True)
    write_truth_chunk(folder / "unseen" / FOLDER / "truth_00000000.npz", batch)
    write_truth_index(folder / "unseen")
    for row, name in enumerate(batch.unique_id[:3]):
        tier, number = name.rsplit("_", 1)
        stem = jades_file_name(tier, number, "clear", "prism").removesuffix(".fits")
        redshift = None if row == 2 else batch.redshift[row]
        write_result(folder / "enhanced" / f"{stem}_sr.fits", batch, row, redshift)
    return folder


def test_the_table_has_true_beside_found_redshifts(folder):
    truth = TruthReader(folder / "unseen")
    head, *rows = redshift_table(folder).splitlines()
    assert head.split() == ["galaxy", "kind", "true", "z", "found", "z", "Z_CONF", "CHI2NU", "flags"]
    assert len(rows) == 3  # one galaxy has no result
    for row, unique_id in zip(rows, truth, strict=False):
        known = truth.get(unique_id)
        assert row.split()[:2] == [unique_id, known.kind] and f"{known.redshift:.4f}" in row
    assert rows[0].split()[-4] == rows[0].split()[-3]
    assert rows[2].split()[-4] == "nan" and rows[2].endswith("NO_CLEAR_REDSHIFT")


def test_the_galaxy_with_the_brightest_line_for_its_noise_is_drawn(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "examples.demonstration.draw_examples",
        lambda examples, method: drawn.extend(examples) or draw_examples(examples, method),
    )
    path = draw_best(folder)
    assert path == folder / "recovered.png" and path.read_bytes().startswith(b"\x89PNG")
    truth, contrast = TruthReader(folder / "unseen"), {}
    for unique_id, file in zip(truth, sorted_results(folder, truth), strict=False):
        known = truth.get(unique_id)
        bright = max(known.line_flux[known.line_names.index(name)] for name in ("[OIII]_5008", "Halpha"))
        contrast[unique_id] = bright / np.nanmedian(fits.getdata(file, "INPUT")["FLUX_ERR"])
    assert drawn[0].title.startswith(f"{max(contrast, key=contrast.get)}\ntrue z = ")
    np.testing.assert_allclose(drawn[0].truth, drawn[0].output[1], rtol=1e-5)  # the truth is in the result


def sorted_results(folder, truth):
    for unique_id in list(truth)[:3]:
        tier, number = unique_id.rsplit("_", 1)
        stem = jades_file_name(tier, number, "clear", "prism").removesuffix(".fits")
        yield folder / "enhanced" / f"{stem}_sr.fits"


def test_a_demo_without_results_says_where_to_look(folder, tmp_path):
    (tmp_path / "unseen").symlink_to(folder / "unseen")
    for step in (redshift_table, draw_best):
        with pytest.raises(DemoError, match=r"enhanced holds no result; the messages of kspecsr enhance"):
            step(tmp_path)


def test_the_summary_names_what_was_made_and_a_command_that_goes_on(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text('{"stages": {"sr1": {}, "zhead": {}, "sr2": {}}}')
    text = train_summary(tmp_path, 12.3)
    assert "Made in 12 s" in text and "(sr1, zhead, sr2)" in text
    assert f"kspecsr enhance YOUR.fits --model {tmp_path / 'model'} --output results" in text


@pytest.mark.parametrize(
    "arguments", [["--galaxies", "49"], ["--unseen", "0"], ["--workers", "0"], ["--epochs", "-1"]]
)
def test_counts_that_make_no_training_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train(["--output", str(tmp_path / "demo"), *arguments])
    assert f"argument {arguments[0]}: expected" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
