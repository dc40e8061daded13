import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from archive_server import serve
from data_pipeline import download
from data_pipeline.archives.release import DISPERSER_FOLDERS
from data_pipeline.catalogue import read_catalogue
from data_pipeline.jades_names import jades_file_name
from data_pipeline.readers import read_spectrum
from data_pipeline.simulation.archive import write_archive

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = "Combined_DR4_external_v1.2.1.fits"
# (field, tier, id, dispersers): as in the survey, not every target has every grating
TARGETS = (
    ("goods-s", "goods-s-deephst", 3968, ("prism", "g140m", "g235m", "g395m")),
    ("goods-s", "goods-s-mediumjwst", 17, ("prism", "g395m")),
    ("goods-n", "goods-n-mediumhst", 5, ("prism",)),
    ("goods-n", "goods-n-mediumhst", 604, ("prism", "g140m", "g235m", "g395m")),
)


def spectrum_path(field, tier, number, disperser):
    folder = DISPERSER_FOLDERS[disperser]
    name = jades_file_name(tier, number, *folder.split("-"))
    return f"{field}/spectra/{folder}/{tier}/{name}"


ALL_PATHS = {spectrum_path(f, t, n, d) for f, t, n, dispersers in TARGETS for d in dispersers}
PRISM = spectrum_path(*TARGETS[0][:3], "prism")


def write_spectrum(path, seed, checksum=True):
    wavelength = np.linspace(0.6, 5.3, 300)
    flux = np.random.default_rng(seed).normal(1e-20, 1e-21, (2, wavelength.size))
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("WAVELENGTH", "D", unit="um", array=wavelength),
            fits.Column("FLUX", "D", array=flux[0]),
            fits.Column("FLUX_ERR", "D", array=np.abs(flux[1])),
        ],
        name="EXTRACT5PIX1D",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, checksum=checksum)


@pytest.fixture(scope="session")
def archive_folder(tmp_path_factory):
    """A small DR4 tree. Any other folder of that layout, such as a simulated archive, serves as well."""
    folder = tmp_path_factory.mktemp("archive")
    for seed, path in enumerate(sorted(ALL_PATHS)):
        write_spectrum(folder / path, seed)
    # never wanted: two-dimensional spectra, the high-resolution grating, read-me files
    (folder / PRISM.replace("_x1d", "_s2d")).write_bytes(b"large")
    write_spectrum(folder / PRISM.replace("clear-prism", "f290lp-g395h"), 99)
    (folder / "goods-s/spectra/clear-prism/README.md").write_text("about")
    ids = fits.Column("NIRSpec_ID", "K", array=np.arange(30_000))
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([ids], name="Obs_info")]).writeto(
        folder / CATALOGUE, checksum=True
    )
    return folder


@pytest.fixture
def archive(archive_folder):
    with serve(archive_folder) as server:
        yield server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Retries come at once; what was asked for is noted."""
    waits = []
    monkeypatch.setattr(
        "data_pipeline.archives.http_client.HttpClient.sleep", lambda self, s: waits.append(s)
    )
    return waits


def run(archive, output, *options):
    return download.main(
        ["--release", "dr4", "--output", str(output), "--base-url", archive.url, "--delay", "0", *options]
    )


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_complete(output, archive, paths=frozenset({*ALL_PATHS, CATALOGUE})):
    assert files_below(output) == set(paths)
    for path in paths:
        assert (output / path).read_bytes() == (archive.folder / path).read_bytes(), path


def test_a_release_is_mirrored_and_counted(archive, tmp_path, capsys):
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
    table = capsys.readouterr().out
    assert re.search(r"catalogue +1 +0 +0\n", table)
    assert re.search(r"prism +4 +0 +0\n", table)
    assert re.search(r"g395m +3 +0 +0\n", table)
    assert re.search(r"all +12 +0 +0\n", table)
    assert {request.user_agent.split("/")[0] for request in archive.requests} == {"kspecsr"}


def test_a_simulated_archive_is_fetched_as_it_was_written_and_reads(tmp_path):
    folder, output = tmp_path / "simulated", tmp_path / "copy"
    write_archive(folder, n=4, seed=2, workers=1, progress=False)
    with serve(folder) as archive:
        assert run(archive, output) == 0
        paths = {path for path in files_below(folder) if path.endswith("_x1d.fits")}
        assert len(paths) >= 4
        assert_complete(output, archive, {*paths, CATALOGUE})
    for path in paths:
        assert read_spectrum(output / path).meta.format == "jades-dr4"
    assert len(read_catalogue(output / CATALOGUE)) == 4


def test_the_second_run_keeps_everything_without_asking_for_a_file(archive, tmp_path, capsys):
    run(archive, tmp_path)
    archive.requests.clear()
    capsys.readouterr()
    assert run(archive, tmp_path) == 0
    assert not [request for request in archive.requests if request.path.endswith(".fits")]
    assert re.search(r"all +0 +12 +0\n", capsys.readouterr().out)


def test_a_broken_transfer_is_continued_where_it_stopped(archive, tmp_path):
    archive.truncate_once[PRISM] = 3000
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
    assert [(r.status, r.range) for r in archive.asked(PRISM)] == [(200, None), (206, "bytes=3000-")]


def test_a_server_without_ranges_sends_the_file_again(archive, tmp_path):
    archive.truncate_once[PRISM] = 3000
    archive.ignore_range = True
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
    assert [r.status for r in archive.asked(PRISM)] == [200, 200]


@pytest.mark.parametrize("claimed", [2880, 50_000], ids=["too short", "too long"])
def test_a_wrong_content_length_is_found_and_the_file_fetched_again(archive, tmp_path, claimed):
    archive.length_once[PRISM] = claimed
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
    assert len(archive.asked(PRISM)) >= 2


def test_an_altered_file_is_found_by_its_checksum_and_fetched_again(archive, tmp_path):
    archive.alter_once.add(PRISM)
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
    assert [(r.status, r.range) for r in archive.asked(PRISM)] == [(200, None), (200, None)]


def test_a_file_that_stays_altered_costs_only_itself_and_is_listed(archive, tmp_path, capsys):
    archive.alter_once.add(PRISM)
    assert run(archive, tmp_path, "--retries", "0") == 1
    assert_complete(tmp_path, archive, {*ALL_PATHS, CATALOGUE} - {PRISM})
    error = capsys.readouterr().err
    assert "1 of 12 files failed" in error
    assert re.search(rf"{re.escape(PRISM)}: .* arrived damaged: altered: HDU 1|.*DATASUM", error)


def test_a_list_of_sha256_sums_finds_what_the_file_itself_cannot(tmp_path, capsys):
    folder, output = tmp_path / "archive", tmp_path / "copy"
    write_spectrum(folder / PRISM, 1, checksum=False)
    (folder / CATALOGUE).write_bytes((folder / PRISM).read_bytes())
    sums = subprocess.run(["sha256sum", PRISM], cwd=folder, capture_output=True, text=True, check=True).stdout
    options = ("--field", "goods-s", "--disperser", "prism", "--retries", "0")
    with serve(folder) as archive:
        archive.alter_once.add(PRISM)
        assert run(archive, output, *options) == 0  # nothing gives it away
        (output / PRISM).unlink()
        (folder / "SHA256SUMS").write_text(sums)
        archive.alter_once.add(PRISM)
        assert run(archive, output, *options) == 1
        assert "altered: SHA-256 is" in capsys.readouterr().err
        assert run(archive, output, *options) == 0
    assert (output / PRISM).read_bytes() == (folder / PRISM).read_bytes()


def test_retry_after_is_obeyed(archive, tmp_path, no_waiting):
    archive.unavailable_once[PRISM] = "17"
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
    assert max(no_waiting) == 17


def test_retries_are_bounded_and_wait_longer_every_time(archive, tmp_path, no_waiting, capsys):
    url = archive.url.replace("127.0.0.1", "127.0.0.2")  # nobody listens there
    assert (
        download.main(["--release", "dr4", "--output", str(tmp_path), "--base-url", url, "--delay", "0"]) == 1
    )
    waits_of_a_dead_server = [wait for wait in no_waiting if wait > 0]
    assert len(waits_of_a_dead_server) == 5
    assert waits_of_a_dead_server == sorted(waits_of_a_dead_server)
    assert waits_of_a_dead_server[-1] / waits_of_a_dead_server[0] > 10
    assert "tried 6 times" in capsys.readouterr().err


@pytest.mark.parametrize("same_version", [True, False], ids=["same file", "file replaced since"])
def test_a_part_left_by_an_earlier_run_is_used_only_if_the_file_is_the_same(archive, tmp_path, same_version):
    part = tmp_path / f"{PRISM}.part"
    part.parent.mkdir(parents=True)
    content = (archive.folder / PRISM).read_bytes()
    part.write_bytes(content[:5000] if same_version else bytes(5000))
    modified = (archive.folder / PRISM).stat().st_mtime - (0 if same_version else 3600)
    os.utime(part, (modified, modified))
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
    assert [r.status for r in archive.asked(PRISM)] == [206 if same_version else 200]


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_local_copy_that_was_damaged_is_fetched_again(archive, tmp_path, damage):
    run(archive, tmp_path)
    content = (tmp_path / PRISM).read_bytes()
    middle = len(content) // 2
    damaged = content[:-2880] if damage == "cut" else content[:middle] + b"#" + content[middle + 1 :]
    (tmp_path / PRISM).write_bytes(damaged)
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--field", "goods-n"), {p for p in ALL_PATHS if p.startswith("goods-n")}),
        (("--disperser", "prism", "g395m"), {p for p in ALL_PATHS if "prism" in p or "g395m" in p}),
        (("--tier", "deephst"), {p for p in ALL_PATHS if "deephst" in p}),
        (("--tier", "goods-s-mediumjwst"), {p for p in ALL_PATHS if "mediumjwst" in p}),
        (
            ("--limit", "1"),
            {p for p in ALL_PATHS if "00000604" in p},
        ),  # the first by name with all four, though another comes before
        (("--limit", "1", "--tier", "mediumjwst"), {p for p in ALL_PATHS if "mediumjwst" in p}),
    ],
)
def test_a_part_of_the_release(archive, tmp_path, options, wanted):
    assert run(archive, tmp_path, *options) == 0
    assert_complete(tmp_path, archive, {*wanted, CATALOGUE})


def test_dry_run_lists_and_writes_nothing(archive, tmp_path, capsys):
    output = tmp_path / "copy"
    assert run(archive, output, "--dry-run") == 0
    assert not output.exists()
    listed = set(capsys.readouterr().out.splitlines())
    assert {*ALL_PATHS, CATALOGUE} < listed
    assert "1 catalogue, 2 g140m, 2 g235m, 3 g395m, 4 prism; 12 files" in listed


def test_nothing_found_says_what_to_check(archive, tmp_path, capsys):
    assert run(archive, tmp_path, "--tier", "ultradeep") == 1
    assert re.search(r"No spectrum of .* and tier ultradeep below .*Check --field", capsys.readouterr().err)


def test_a_folder_that_is_not_there_is_named_and_the_rest_fetched(archive, tmp_path, caplog):
    archive.forbidden.add("goods-n/spectra/f170lp-g235m/")
    assert run(archive, tmp_path) == 0
    assert_complete(
        tmp_path, archive, {p for p in (*ALL_PATHS, CATALOGUE) if not re.match(".*-n/.*g235m", p)}
    )
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().startswith(
        "nothing taken from goods-n/spectra/f170lp-g235m/: the server answers 403"
    )


def test_a_missing_catalogue_costs_only_itself(archive, tmp_path, capsys):
    archive.forbidden.add(CATALOGUE)
    assert run(archive, tmp_path) == 1
    assert_complete(tmp_path, archive, ALL_PATHS)
    assert re.search(rf"{re.escape(CATALOGUE)}: the server answers 403", capsys.readouterr().err)


def test_robots_txt_is_respected(tmp_path, capsys):
    folder = tmp_path / "archive"
    write_spectrum(folder / PRISM, 1)
    (folder / "robots.txt").write_text("User-agent: *\nDisallow: /goods-s/\n")
    with serve(folder) as archive:
        assert run(archive, tmp_path / "copy", "--field", "goods-s") == 1
    assert "robots.txt asks programs not to read this" in capsys.readouterr().err
    assert not archive.asked("goods-s/spectra/clear-prism/")


def test_a_full_disk_ends_the_run_with_a_cure(archive, tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    part = tmp_path / f"{CATALOGUE}.part"
    part.symlink_to("/dev/full")
    assert run(archive, tmp_path) == 1
    assert re.search(
        r"Cannot write .*No space left.*free space.*rerun the same command to resume", capsys.readouterr().err
    )


def test_no_permission_ends_the_run_with_a_cure(archive, tmp_path, capsys, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run(archive, tmp_path) == 1
    assert re.search(r"Cannot write .*Permission denied.*choose another --output", capsys.readouterr().err)


def test_an_output_that_is_a_file_ends_the_run_with_a_cure(archive, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert run(archive, tmp_path / "taken") == 1
    assert "a part of the path is a file, not a folder: choose another --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--base-url", "jades.example.org"), "must begin with http:// or https://"),
        (("--limit", "0"), "limit=0 must be 1 or more"),
        (("--delay", "-1"), "delay=-1.0 must not be negative"),
    ],
)
def test_impossible_options_are_refused(archive, tmp_path, capsys, options, message):
    assert run(archive, tmp_path, *options) == 1
    assert message in capsys.readouterr().err


def test_ctrl_c_leaves_whole_or_partial_files_and_the_next_run_finishes(archive, tmp_path):
    command = [sys.executable, "-m", "data_pipeline.download", "--release", "dr4", "--output", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--base-url", archive.url, "--delay", "0.1"],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while archive.statuses()[200] < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; rerun the same command to resume" in err
    assert "Traceback" not in err
    assert "fetched" in out
    left = {path.removesuffix(".part") for path in files_below(tmp_path)}
    assert 3 <= len(left) < 12
    assert run(archive, tmp_path) == 0
    assert_complete(tmp_path, archive)
