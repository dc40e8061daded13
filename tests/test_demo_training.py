"""`examples.demo_train` without its training: what it prints and draws of results, and its limits."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.jades_names import jades_file_name
from data_pipeline.simulation import SimulationConfig, simulate_batch
from data_pipeline.simulation.truth import FOLDER, TruthReader, write_truth_chunk, write_truth_index
from examples.demo_train import main, parser, summary
from examples.demonstration import DemoError
from examples.unseen_galaxies import draw_best, redshift_table
from kspecsr.evaluation.figures.examples import draw_examples

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
        "examples.unseen_galaxies.draw_examples",
        lambda examples, method: drawn.extend(examples) or draw_examples(examples, method),
    )
    path = draw_best(folder)
    assert path == folder / "recovered.png" and path.read_bytes().startswith(b"\x89PNG")
    truth, contrast = TruthReader(folder / "unseen"), {}
    for unique_id, file in zip(truth, sorted_results(folder, truth), strict=False):
        known = truth.get(unique_id)
        bright = max(known.line_flux[known.line_names.index(name)] for name in ("[OIII]_5008", "Halpha"))
        contrast[unique_id] = bright / np.nanmedian(fits.getdata(file, "INPUT")["FLUX_ERR"])
    assert drawn[0].title.startswith(f"{max(contrast, key=contrast.get)}: true z = ")
    np.testing.assert_allclose(drawn[0].truth, drawn[0].output[1], rtol=1e-5)  # the truth is in the result


def sorted_results(folder, truth):
    for unique_id in list(truth)[:3]:
        tier, number = unique_id.rsplit("_", 1)
        stem = jades_file_name(tier, number, "clear", "prism").removesuffix(".fits")
        yield folder / "enhanced" / f"{stem}_sr.fits"


def test_a_demo_without_results_says_where_to_look(folder, tmp_path):
    (tmp_path / "unseen").symlink_to(folder / "unseen")
    for step in (redshift_table, draw_best):
        with pytest.raises(DemoError, match=r"enhanced holds no result; the messages of kspecsr\.enhance"):
            step(tmp_path)


def test_the_summary_names_what_was_made_and_a_command_that_goes_on(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text('{"stages": {"sr1": {}, "zhead": {}, "sr2": {}}}')
    text = summary(tmp_path, 12.3)
    assert "Made in 12 s" in text and "(sr1, zhead, sr2)" in text
    assert f"python -m kspecsr.enhance YOUR.fits --model {tmp_path / 'model'} --output results" in text


@pytest.mark.parametrize(
    "arguments", [["--galaxies", "49"], ["--unseen", "0"], ["--workers", "0"], ["--epochs", "-1"]]
)
def test_counts_that_make_no_demo_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path / "demo"), *arguments])
    assert "expected --galaxies of 50 or more" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_somebody_elses_folder_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert main(["--output", str(tmp_path)]) == 1
    assert "was not made by this demo" in capsys.readouterr().err
    assert Path(parser().parse_args(["--output", "demo"]).output) == Path("demo")
