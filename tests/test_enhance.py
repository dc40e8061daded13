import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from data_pipeline.spectrum import SpectrumError, SpectrumMeta
from data_pipeline.writers.jades import write_jades_catalogue
from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import (
    BINS,
    IDENTITY,
    REDSHIFT,
    JointStandIn,
    StandIn,
    grating_spectrum,
    prism_spectrum,
    write_stand_in_folder,
)
from kspecsr import enhance
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.model_settings import weights_hash
from kspecsr.results.result import Result
from kspecsr.super_resolver import SuperResolver


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model folder that loads the stand-in; its networks' calls are counted."""
    folder = write_stand_in_folder(tmp_path / "model")
    network = StandIn()

    def from_folder(path, precision="float32"):
        assert path == folder
        identity = type(IDENTITY)("stand-in", weights_hash(folder), IDENTITY.grid, IDENTITY.software)
        return SuperResolver(network, identity, BINS)

    monkeypatch.setattr(SuperResolver, "from_folder", from_folder)
    network.folder = folder
    return network


@pytest.fixture
def spectra(tmp_path):
    """Three prism spectra in a folder."""
    folder = tmp_path / "spectra"
    folder.mkdir()
    for number in range(3):
        spectrum = prism_spectrum(number, source_id=str(number), target=f"tier_{number}")
        write_spectrum(folder / f"gal{number}.fits", spectrum, {})
    return folder


def run(model, *arguments, output="out"):
    folder = model.folder.parent / output
    return enhance.main([*map(str, arguments), "--model", str(model.folder), "--output", str(folder)]), folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gives_a_result_per_file(model, spectra, capsys):
    status, out = run(model, spectra)
    assert status == 0
    assert names(out) == ["gal0_sr.fits", "gal1_sr.fits", "gal2_sr.fits"]
    header = fits.getheader(out / "gal1_sr.fits")
    assert header["INPUT"] == "gal1.fits" and header["Z"] == pytest.approx(REDSHIFT, abs=1e-6)
    assert header["MODELSHA"] == weights_hash(model.folder) and len(header["INPUTSHA"]) == 64
    printed = capsys.readouterr().out
    assert "gal1.fits: z 3.2350, Z_CONF 1.00" in printed and "[OIII]_5008 3.000e-18" in printed
    assert "3 results in" in printed


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(model, spectra, capsys):
    assert run(model, spectra / "gal0.fits")[0] == 0
    (spectra / "bad.fits").write_text("nothing")
    write_spectrum(spectra / "grating.fits", prism_spectrum(disperser="G395M"), {})
    capsys.readouterr()
    before = {path: path.read_bytes() for path in spectra.parent.rglob("*.fits")}
    code, output = run(model, spectra / "bad.fits", spectra, "--dry-run")
    out, error = capsys.readouterr()
    assert code == 1 and "1 would fail" in error and "bad.fits" in error
    assert f"gal0.fits: {output / 'gal0_sr.fits'} is there" in out
    assert f"gal1.fits: to {output / 'gal1_sr.fits'}" in out
    assert "grating.fits: no prism spectrum" in out
    assert "2 of 5 would be super-resolved; nothing was written" in out
    assert {path: path.read_bytes() for path in spectra.parent.rglob("*.fits")} == before
    assert len(model.sizes) == 1  # the networks ran for the first result alone


def test_a_limit_takes_the_first_files(model, spectra, capsys):
    code, output = run(model, spectra, "--limit", 2)
    assert code == 0 and names(output) == ["gal0_sr.fits", "gal1_sr.fits"]
    assert run(model, spectra, "--limit", 2, "--dry-run", output="new")[0] == 0
    assert "2 of 2 would be" in capsys.readouterr().out and not (output.parent / "new").exists()


def test_what_is_there_is_skipped_and_counted(model, spectra, capsys):
    run(model, spectra)
    calls = len(model.sizes)
    status, out = run(model, spectra)
    assert (status, len(model.sizes)) == (0, calls)
    assert "0 results in" in (printed := capsys.readouterr().out) and "3 were there already" in printed
    # another input, another redshift, another model, a damaged result: made again
    write_spectrum(spectra / "gal0.fits", prism_spectrum(9), {})
    (out / "gal1_sr.fits").write_bytes((out / "gal1_sr.fits").read_bytes()[:10_000])
    run(model, spectra)
    assert "2 results in" in (printed := capsys.readouterr().out) and "1 were there already" in printed
    run(model, spectra, "--redshift", "2.5")
    assert "3 results in" in capsys.readouterr().out
    run(model, spectra, "--redshift", "2.5")
    assert "3 were there already" in capsys.readouterr().out
    (model.folder / "sr2.keras").write_bytes(b"trained again")
    run(model, spectra, "--redshift", "2.5")
    assert "3 results in" in capsys.readouterr().out
    run(model, spectra, "--redshift", "2.5", "--overwrite")
    assert "3 results in" in capsys.readouterr().out


def test_a_zero_point_is_applied_where_it_is_asked_for_and_stated(model, spectra, capsys):
    out = run(model, spectra)[1]
    as_released = fits.getheader(out / "gal0_sr.fits")
    run(model, spectra, "--zero-point", "180")
    assert "3 results in" in capsys.readouterr().out.splitlines()[-1]
    header = fits.getheader(out / "gal0_sr.fits")
    assert header["ZEROPT"] == 180.0 and "ZEROPT" not in as_released
    read = Result.read(out / "gal0_sr.fits").observed
    np.testing.assert_allclose(
        prism_spectrum(0).wavelength / read.wavelength - 1.0, 180.0 / 299792.458, rtol=1e-6
    )
    assert read.meta.zero_point == 180.0 and "zero point of 180 km/s" in read.meta.notes[-1]
    run(model, spectra, "--zero-point", "180")
    assert "3 were there already" in capsys.readouterr().out
    run(model, spectra)  # and without it they are others
    assert "3 results in" in capsys.readouterr().out
    assert "ZEROPT" not in fits.getheader(out / "gal0_sr.fits")


def test_plots_and_ecsv_are_made_and_resumed(model, spectra, capsys):
    status, out = run(model, spectra / "gal0.fits", "--plot", "--format", "ecsv")
    assert status == 0
    assert names(out) == ["gal0_sr.ecsv", "gal0_sr.png", "gal0_sr_lines.ecsv"]
    run(model, spectra / "gal0.fits", "--plot", "--format", "ecsv")
    assert "1 were there already" in capsys.readouterr().out
    (out / "gal0_sr.png").unlink()
    run(model, spectra / "gal0.fits", "--plot", "--format", "ecsv")
    assert "1 results in" in capsys.readouterr().out


def test_bad_files_do_not_end_a_batch_and_are_listed(model, spectra, capsys):
    (spectra / "broken.fits").write_bytes(b"SIMPLE  = nonsense")
    (spectra / "empty.fits").write_bytes(b"")
    status, out = run(model, spectra, spectra / "missing.fits", spectra.parent)
    assert status == 1
    assert names(out) == ["gal0_sr.fits", "gal1_sr.fits", "gal2_sr.fits"]
    error = capsys.readouterr().err
    assert "3 failed:" in error
    for name in ("broken.fits", "empty.fits: is empty", "missing.fits: no such file"):
        assert name in error


def test_gratings_are_passed_over_in_folders_and_refused_by_name(model, spectra, capsys):
    write_spectrum(spectra / "g395m.fits", prism_spectrum(disperser="G395M"), {})
    status, out = run(model, spectra)
    assert status == 0 and len(names(out)) == 3
    assert "1 files in folders are no prism spectra" in capsys.readouterr().out
    Table({"Unique_ID": ["t_1"], "z_Spec": [-1.0]}).write(spectra / "catalogue.fits")
    assert run(model, spectra)[0] == 0
    assert "2 files in folders are no prism spectra" in capsys.readouterr().out
    assert run(model, spectra / "catalogue.fits")[0] == 1
    assert "catalogue.fits: not recognised" in capsys.readouterr().err
    status, _ = run(model, spectra / "g395m.fits")
    assert status == 1
    assert "g395m.fits[SPECTRUM]: is a G395M spectrum; expected NIRSpec PRISM" in capsys.readouterr().err


def test_results_among_the_inputs_are_left_alone(model, spectra, capsys):
    status, _ = run(model, spectra, output="spectra")
    status, out = run(model, spectra, output="spectra")
    assert status == 0 and "3 were there already" in capsys.readouterr().out
    assert len(names(out)) == 6


def test_a_failed_write_is_listed_and_others_go_on(model, spectra, capsys):
    out = model.folder.parent / "out"
    (out / "gal1_sr.fits").mkdir(parents=True)  # where the result should go
    status, _ = run(model, spectra)
    assert status == 1
    assert names(out) == ["gal0_sr.fits", "gal1_sr.fits", "gal2_sr.fits"]
    assert "1 failed:" in (error := capsys.readouterr().err) and "gal1.fits" in error


def test_what_cannot_begin_says_so(model, spectra, capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    assert enhance.main([str(spectra), "--output", str(tmp_path / "file"), "--model", str(model.folder)]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert enhance.main([str(spectra), "--output", str(tmp_path / "o"), "--model", str(tmp_path / "no")]) == 1
    assert "neither a model folder nor the name of a shipped model" in capsys.readouterr().err
    assert run(model, str(spectra / "*.nothing"))[0] == 1
    assert "no file matches this pattern" in capsys.readouterr().err
    assert run(model, spectra, "--redshift", "-3")[0] == 1
    assert "expected a redshift from 0 to 30, got -3" in capsys.readouterr().err


def test_interruption_is_130(model, spectra, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SuperResolver, "resolve", interrupt)
    assert run(model, spectra)[0] == 130
    assert "rerun the same command to resume" in capsys.readouterr().err


def test_noise_is_counted_as_flagged(model, spectra, capsys):
    spectrum = prism_spectrum(4)
    noise = spectrum.error * np.random.default_rng(1).standard_normal(len(spectrum))
    write_spectrum(spectra / "noise.fits", spectrum.replace(flux=noise), {})
    status, out = run(model, spectra)
    assert status == 0
    printed = capsys.readouterr().out
    assert "1 of them without lines" in printed and "no lines: LOW_SN" in printed
    assert fits.getheader(out / "noise_sr.fits")["FLAGS"] == "LOW_SN"


def test_more_files_than_a_batch_and_worker_processes(model, spectra):
    for number in range(70):
        shutil.copy(spectra / "gal0.fits", spectra / f"copy{number:03d}.fits")
    status, out = run(model, spectra, "--workers", "2", "--quiet")
    assert status == 0 and len(names(out)) == 73
    assert fits.getheader(out / "copy069_sr.fits")["INPUT"] == "copy069.fits"


def test_files_in_memory_do_not_grow_with_their_number(model, spectra, monkeypatch):
    """Reading never runs ahead of writing by more than a batch."""
    for number in range(200):
        os.link(spectra / "gal0.fits", spectra / f"link{number:03d}.fits")
    open_at_once, most = set(), [0]
    from kspecsr.enhancement import run as module

    plain_read, plain_write = module.read_file, module.write_file

    def read(settings, file):
        open_at_once.add(file.name)
        most[0] = max(most[0], len(open_at_once))
        return plain_read(settings, file)

    def write(settings, item):
        open_at_once.discard(item[0].name)
        return plain_write(settings, item)

    monkeypatch.setattr(module, "read_file", read)
    monkeypatch.setattr(module, "write_file", write)
    assert run(model, spectra, "--quiet")[0] == 0
    assert most[0] <= module.BATCH


def test_a_table_of_redshifts_is_used_by_name_or_id(model, spectra, capsys, tmp_path):
    table = Table({"file": ["gal0.fits", "elsewhere/gal1"], "z_spec": [1.5, 2.5], "other": ["a", "b"]})
    table.write(tmp_path / "z.csv")
    status, out = run(model, spectra, "--redshift", f"{tmp_path / 'z.csv'}:z_spec")
    assert status == 0
    found = [fits.getheader(out / f"gal{n}_sr.fits")["Z"] for n in range(3)]
    assert found == pytest.approx([1.5, 2.5, REDSHIFT], abs=1e-6)
    assert [fits.getheader(out / f"gal{n}_sr.fits")["ZSOURCE"] for n in (0, 2)] == ["given", "spectrum"]
    assert "1 of them without a redshift in the table, so inferred" in capsys.readouterr().out


def test_redshift_tables_say_what_is_wrong(tmp_path, spectra):
    path = tmp_path / "z.ecsv"
    Table({"Unique_ID": ["t_1", "t_2"], "ID": [7, 7], "z": [1.0, 2.0], "note": ["x", "y"]}).write(path)
    known = KnownRedshifts.parse(f"{path}:z")
    meta = SpectrumMeta(tier="t", source_id="2")
    assert known.of(tmp_path / "x.fits", meta) == 2.0
    assert np.isnan(known.of(tmp_path / "x.fits", SpectrumMeta(source_id="9")))
    by_id = KnownRedshifts.parse(f"{path}:z:ID")
    with pytest.raises(ValueError, match=r"several rows with different redshifts for '7'"):
        by_id.of(tmp_path / "x.fits", SpectrumMeta(source_id="7"))
    with pytest.raises(ValueError, match="no column zz; it has table: Unique_ID, ID, z, note"):
        KnownRedshifts.parse(f"{path}:zz")
    with pytest.raises(ValueError, match="no column key; it has"):
        KnownRedshifts.parse(f"{path}:z:key")
    with pytest.raises(ValueError, match=r"expected a number, or TABLE:COLUMN"):
        KnownRedshifts.parse("three")
    with pytest.raises(ValueError, match="nothing is no file"):
        KnownRedshifts.parse("nothing:z")
    with pytest.raises(ValueError, match="should hold numbers"):
        KnownRedshifts.parse(f"{path}:note")
    Table({"file": ["a", "b"], "z": [-1.0, -99.0]}).write(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"column z holds no redshift from 0 to 30 .* --known TABLE:COLUMN"):
        KnownRedshifts.parse(f"{tmp_path / 'none.csv'}:z", "--known")


@pytest.mark.parametrize("nothing", [-1.0, -99.0, 99.0, np.nan, np.inf])
def test_what_catalogues_write_for_no_redshift_is_none(tmp_path, nothing):
    """The command in the help text, on a table in the layout of JADES, whose z_Spec is -1 for none."""
    path = tmp_path / "catalogue.fits"
    texts = {name: np.array(["t", "t"]) for name in ("TIER", "Field", "z_Spec_flag")}
    numbers = {name: np.zeros(2) for name in ("RA_TARG", "Dec_TARG", "z_R1000")}
    ids = {"Unique_ID": np.array(["t_1", "t_2"]), "NIRSpec_ID": np.array([1, 2])}
    write_jades_catalogue(path, {**texts, **numbers, **ids, "z_Spec": np.array([nothing, 2.5])})
    known = KnownRedshifts.parse(f"{path}:z_Spec:Unique_ID")
    assert np.isnan(known.of(tmp_path / "x.fits", SpectrumMeta(tier="t", source_id="1")))
    assert known.of(tmp_path / "x.fits", SpectrumMeta(tier="t", source_id="2")) == 2.5
    if not np.isnan(nothing):
        with pytest.raises(ValueError, match="--redshift: expected a redshift from 0 to 30, got"):
            KnownRedshifts.parse(str(nothing))


def test_inputs_come_from_patterns_folders_and_lists_once_each(spectra, monkeypatch):
    (spectra / "sub").mkdir()
    shutil.copy(spectra / "gal0.fits", spectra / "sub" / "gal0.fits")
    (spectra / "old_sr.fits").write_text("x")
    (spectra / "list.txt").write_text("# prism\ngal1.fits\n\nsub/*.fits\n")
    found = list_inputs([spectra / "gal0.fits", str(spectra / "gal?.fits"), f"@{spectra / 'list.txt'}"])
    assert [f.name for f in found] == ["gal0_sr", "gal1_sr", "gal2_sr", "gal0-2_sr"]
    assert [f.sought for f in found] == [False] * 4
    assert [f.path.name for f in list_inputs([spectra])] == [
        "gal0.fits",
        "gal1.fits",
        "gal2.fits",
        "gal0.fits",
    ]
    assert all(f.sought for f in list_inputs([spectra]))
    (spectra / "loop.txt").write_text("@loop.txt")
    monkeypatch.chdir(spectra)
    with pytest.raises(SpectrumError, match="names itself"):
        list_inputs(["@loop.txt"])
    with pytest.raises(SpectrumError, match="no readable list of files"):
        list_inputs(["@none.txt"])
    (spectra / "void").mkdir()
    with pytest.raises(SpectrumError, match=r"holds no file that ends in \.fits"):
        list_inputs([spectra / "void"])


def test_ctrl_c_leaves_complete_results_only(tmp_path, spectra):
    """A real process, stopped in the middle; what is there is complete, and a second run goes on."""
    for number in range(300):
        os.link(spectra / "gal0.fits", spectra / f"link{number:03d}.fits")
    folder, out = write_stand_in_folder(tmp_path / "model"), tmp_path / "out"
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from enhancement_sample import *\n"
        "from kspecsr import enhance\nfrom kspecsr.super_resolver import SuperResolver\n"
        "SuperResolver.from_folder = lambda path, **_: SuperResolver(StandIn(), IDENTITY, BINS)\n"
        "sys.exit(enhance.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(spectra), "--model", str(folder), "--output", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and not list(out.glob("*_sr.fits")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "interrupted" in error and "Traceback" not in error
    written = list(out.iterdir())
    assert 0 < len(written) < 303
    for path in written:
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")
            assert len(hdus) == 5


@pytest.fixture
def joint_model(model):
    """The stand-in with joint line errors."""
    model.__class__, model.error = JointStandIn, 1e-19
    return model


@pytest.fixture
def archive(tmp_path):
    """Two prism spectra, and a grating at the place of the first."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(2):
        spectrum = prism_spectrum(number, ra=10.0 + 0.01 * number, dec=0.0, source_id=str(number))
        write_spectrum(folder / f"prism{number}.fits", spectrum, {})
    write_spectrum(folder / "g235m.fits", grating_spectrum(ra=10.0, dec=0.0), {})
    return folder


def test_a_prism_is_joined_with_gratings_that_are_named(joint_model, archive, capsys):
    arguments = (archive / "prism0.fits", "--with", archive / "g235m.fits")
    status, out = run(joint_model, *arguments, "--plot")
    assert status == 0 and names(out) == ["prism0_sr.fits", "prism0_sr.png"]
    header = fits.getheader(out / "prism0_sr.fits")
    assert header["ARMS"] == "G235M" and header["INPUT_G235M"] == "g235m.fits"
    assert abs(header["Z"] - REDSHIFT) < 1e-3 and header["Z_ERR"] < 5e-4
    assert "joined with G235M (g235m.fits): prism over grating 1.1" in capsys.readouterr().out
    before = len(joint_model.sizes)
    assert run(joint_model, *arguments)[0] == 0 and len(joint_model.sizes) == before  # is there already
    assert "1 were there already" in capsys.readouterr().out
    assert run(joint_model, *arguments, "--redshift", REDSHIFT)[0] == 0
    assert fits.getheader(out / "prism0_sr.fits")["ZLOOKED"] == REDSHIFT
    before = len(joint_model.sizes)
    assert run(joint_model, *arguments, "--redshift", REDSHIFT)[0] == 0 and len(joint_model.sizes) == before
    assert run(joint_model, archive / "prism0.fits")[0] == 0  # without them, it is another result
    assert "ARMS" not in fits.getheader(out / "prism0_sr.fits")


def test_gratings_in_a_folder_go_to_the_prism_that_they_belong_to(joint_model, archive, capsys):
    assert run(joint_model, archive, "--with", archive, "--dry-run")[0] == 0
    printed = capsys.readouterr().out
    assert "prism0_sr.fits, with g235m.fits" in printed and "prism1_sr.fits\n" in printed
    status, out = run(joint_model, archive, "--with", archive)
    assert status == 0 and names(out) == ["prism0_sr.fits", "prism1_sr.fits"]
    arms = ["ARMS" in fits.getheader(out / name) for name in names(out)]
    assert arms == [True, False]


def test_gratings_that_cannot_be_joined_are_refused_with_what_to_do(model, archive, capsys):
    alone = run(model, archive / "g235m.fits")[0]
    assert alone == 1 and "a medium grating goes beside it: --with FILE" in capsys.readouterr().err
    both = (archive / "prism0.fits", "--with", archive / "g235m.fits")
    assert run(model, *both)[0] != 0
    assert "this model states each line's error by itself" in capsys.readouterr().err
    other = archive / "other"
    other.mkdir()
    (archive / "g235m.fits").rename(other / "g235m.fits")
    assert run(model, archive / "prism1.fits", "--with", other)[0] != 0
    assert "none of 1 medium gratings there belongs to one of 1 prism spectra" in capsys.readouterr().err
