"""What stops ``kspecsr enhance`` early, and results that must not be lost."""

import errno
import shutil

import pytest
import tensorflow as tf
from astropy.io import fits

from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import BINS, IDENTITY, StandIn, prism_spectrum, write_stand_in_folder
from kspecsr import enhance
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.model_settings import weights_hash
from kspecsr.results.result import Result
from kspecsr.super_resolver import SuperResolver


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command with the stand-in; results go to ``tmp_path / "out"``."""
    folder = write_stand_in_folder(tmp_path / "model")
    identity = type(IDENTITY)("stand-in", weights_hash(folder), IDENTITY.grid, IDENTITY.software)
    monkeypatch.setattr(
        SuperResolver, "from_folder", lambda _, **more: SuperResolver(StandIn(), identity, BINS)
    )

    def command(*arguments):
        given = [*map(str, arguments), "--model", str(folder), "--output", str(tmp_path / "out")]
        return enhance.main(given)

    return command


@pytest.fixture
def twins(tmp_path):
    """Two spectra of one name in two folders."""
    paths = []
    for number, folder in enumerate(("first", "second")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "gal.fits")
        write_spectrum(paths[-1], prism_spectrum(number), {})
    return paths


def sums(folder):
    return {path.name: fits.getheader(path)["INPUTSHA"] for path in sorted(folder.glob("*_sr.fits"))}


def test_names_stay_apart_within_a_run(tmp_path):
    paths = [tmp_path / name for name in ("a/x.fits", "b/x.fits", "x-2.fits", "c/x.ecsv", "x-2.fits")]
    assert [file.name for file in list_inputs(paths)] == ["x_sr", "x-2_sr", "x-2-2_sr", "x-3_sr"]


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--format", "ecsv"]])
def test_a_result_of_another_file_of_the_same_name_is_not_lost(run, twins, tmp_path, capsys, options):
    assert run(twins[0], *options) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write_spectrum(tmp_path / "other.fits", prism_spectrum(5), {})
    capsys.readouterr()
    assert run(twins[1], tmp_path / "other.fits", *options) == 1
    captured = capsys.readouterr()
    assert "1 results in" in captured.out and "1 failed:" in captured.err
    assert f"{twins[1]}: " in captured.err and "is the result of another file" in captured.err
    assert "Choose another --output" in captured.err
    assert {path: path.read_bytes() for path in before} == before


def test_both_of_a_name_get_results_in_one_run_and_the_run_resumes(run, twins, tmp_path, capsys):
    assert run(*twins) == 0
    made = sums(tmp_path / "out")
    assert list(made) == ["gal-2_sr.fits", "gal_sr.fits"] and len(set(made.values())) == 2
    assert run(*twins) == 0
    assert "2 were there already" in capsys.readouterr().out


def test_a_file_that_was_moved_or_changed_in_place_is_the_same_input(run, twins, tmp_path, capsys):
    assert run(twins[0]) == 0
    (tmp_path / "moved").mkdir()
    shutil.move(twins[0], tmp_path / "moved" / "gal.fits")
    assert run(tmp_path / "moved" / "gal.fits") == 0
    assert "1 were there already" in capsys.readouterr().out
    write_spectrum(twins[0], prism_spectrum(7), {})
    assert run(twins[0]) == 0
    assert "1 results in" in capsys.readouterr().out
    header = fits.getheader(tmp_path / "out" / "gal_sr.fits")
    assert str(tmp_path) not in repr(header)  # results are shared: no folder of the user's in them


def test_a_full_disk_ends_the_run_with_its_summary_and_failures(run, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "spectra"
    folder.mkdir()
    (folder / "a_broken.fits").write_bytes(b"")
    for number in range(4):
        write_spectrum(folder / f"gal{number}.fits", prism_spectrum(number), {})
    plain = Result.write

    def write(self, path, form):
        if "gal2" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(self, path, form)

    monkeypatch.setattr(Result, "write", write)
    assert run(folder) == 1
    captured = capsys.readouterr()
    assert "2 results in" in captured.out
    assert "1 failed:" in captured.err and "a_broken.fits: is empty" in captured.err
    assert "ended early: [Errno 28] No space left on device" in captured.err
    assert "gal2_sr.fits" in captured.err and "rerun the same command to resume" in captured.err
    monkeypatch.setattr(Result, "write", plain)
    assert run(folder) == 1  # the broken one is still broken
    assert "2 results in" in (out := capsys.readouterr().out) and "2 were there already" in out


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating [64,6074]\n\tnode x\n\tnode y"),
            "ResourceExhaustedError: OOM when allocating [64,6074]; memory is full: end other programs",
        ),
        (MemoryError(), "MemoryError: no reason given; memory is full"),
        (
            tf.errors.InternalError(None, None, "no kernel"),
            "InternalError: no kernel; rerun",
        ),
    ],
)
def test_errors_of_the_networks_are_one_line(run, twins, capsys, monkeypatch, error, text):
    def fail(*_):
        raise error

    monkeypatch.setattr(SuperResolver, "resolve", fail)
    assert run(*twins) == 1
    captured = capsys.readouterr()
    assert "0 results in" in captured.out
    assert f"ended early: the networks failed: {text}" in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_mistakes_of_this_program_show_their_traceback_on_request(run, twins, monkeypatch, capsys):
    def fail(*_):
        raise AttributeError("a mistake")

    monkeypatch.setattr(SuperResolver, "resolve", fail)
    assert run(*twins) == 1
    assert capsys.readouterr().err.startswith("error: unexpected AttributeError: a mistake; --verbose shows")
    assert run(*twins, "--verbose") == 1
    assert "in fail\n" in capsys.readouterr().err
