import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.configuration import from_dict, json_hash, to_dict
from data_pipeline.records import (
    SCHEMA_VERSION,
    Manifest,
    PrismPixels,
    RecordIntegrityError,
    StepCount,
    iterate,
    load,
    verify_records,
)
from data_pipeline.records.__main__ import main
from data_pipeline.records.shards import record_positions
from records_sample import GRID, LINES, SCHEMA, write_records

ROOT = Path(__file__).resolve().parents[1]
SHARD = "train-00001-of-00003.tfrecord"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    write_records(directory, {"train": 10, "test": 4})
    return directory


@pytest.fixture
def records(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "records"))


def rewrite_manifest(directory, change):
    """Edit a manifest and make its own hash match again."""
    path = directory / "manifest.json"
    outer = json.loads(path.read_text())
    change(outer["manifest"])
    outer["sha256"] = json_hash(outer["manifest"])
    path.write_text(json.dumps(outer))


def flip_payload_byte(directory):
    path = directory / SHARD
    data = bytearray(path.read_bytes())
    data[int(record_positions(path)[2].sum()) - 40] ^= 1
    path.write_bytes(data)
    return (
        r"train-00001-of-00003.tfrecord: found SHA-256 .*, expected .*record 2 at byte \d+: .*payload.*build"
    )


def flip_length_byte(directory):
    path = directory / SHARD
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)
    return r"train-00001-of-00003.tfrecord: found SHA-256 .*record 0 at byte 0: .*length.*build the rec"


def cut_at_a_boundary(directory):
    path = directory / SHARD
    end = int(record_positions(path)[1].sum()) + 4
    path.write_bytes(path.read_bytes()[:end])
    return (
        rf"train-00001-of-00003.tfrecord: found {end:,} bytes, expected [\d,]+ bytes in 3 records; it has 2 "
        r"whole records.*record boundary.*build the records again"
    )


def cut_within_a_record(directory):
    path = directory / SHARD
    path.write_bytes(path.read_bytes()[:-7])
    return r"train-00001-of-00003.tfrecord: found .*; it has record 2 at byte \d+ is cut off.*build"


def append_a_record(directory):
    path = directory / SHARD
    data = path.read_bytes()
    path.write_bytes(data + data[: int(record_positions(path)[0].sum()) + 4])
    return r"train-00001-of-00003.tfrecord: found .* expected .* in 3 records; it has 4 whole records"


def swap_two_records(directory):
    path = directory / SHARD
    data = path.read_bytes()
    ends = [0, *(int(row.sum()) + 4 for row in record_positions(path))]
    first, second, third = (data[a:b] for a, b in pairwise(ends))
    path.write_bytes(first + third + second)
    return (
        r"train-00001-of-00003.tfrecord: found SHA-256 .*all 3 records have matching checksums.*replaced or"
    )


def remove_a_shard(directory):
    (directory / SHARD).unlink()
    return r"train-00001-of-00003.tfrecord: missing: found no such file, expected 3 records in [\d,]+ bytes"


def damage_another_split(directory):
    (directory / "test-00000-of-00003.tfrecord").unlink()
    return r"test-00000-of-00003.tfrecord: missing"


def add_a_shard(directory):
    shutil.copy(directory / SHARD, directory / "train-00003-of-00003.tfrecord")
    return r"train-00003-of-00003.tfrecord: surplus: found a shard that manifest.json does not list.*move it"


def manifest_of_another_schema(directory):
    def change(manifest):
        manifest["schema"]["fields"][0]["name"] = "prism_counts"

    rewrite_manifest(directory, change)
    return r"train-00000-of-00003.tfrecord: manifest.json describes another schema.*field prism_flux received"


def manifest_of_other_records(directory):
    other = directory.with_name("other")
    write_records(other, {"train": 10, "test": 4}, seed=5)
    shutil.copy(other / "manifest.json", directory / "manifest.json")
    return r"train-00000-of-00003.tfrecord: found SHA-256"


def manifest_of_another_version(directory):
    def change(manifest):
        manifest["schema"]["version"] = 7

    rewrite_manifest(directory, change)
    return rf"manifest.json: found schema version 7, this kspecsr reads version {SCHEMA_VERSION}; build"


def flipped_byte_in_the_manifest(directory):
    path = directory / "manifest.json"
    text = path.read_text()
    assert '"split": 1' in text
    path.write_text(text.replace('"split": 1', '"split": 3'))
    return r"manifest.json: damaged or edited: .*build the records again"


def cut_manifest(directory):
    path = directory / "manifest.json"
    path.write_text(path.read_text()[:500])
    return r"manifest.json: no readable manifest"


DAMAGE = (
    flip_payload_byte,
    flip_length_byte,
    cut_at_a_boundary,
    cut_within_a_record,
    append_a_record,
    swap_two_records,
    remove_a_shard,
    damage_another_split,
    add_a_shard,
    manifest_of_another_schema,
    manifest_of_other_records,
    manifest_of_another_version,
    flipped_byte_in_the_manifest,
    cut_manifest,
)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_named_before_any_example(records, damage, capsys):
    assert len(list(iterate(records, "train"))) == 10  # whole, and remembered as verified
    message = "(?s)" + damage(records)
    with pytest.raises(RecordIntegrityError, match=message):
        verify_records(records)
    with pytest.raises(RecordIntegrityError, match=message):
        iterate(records, "train")
    with pytest.raises(RecordIntegrityError, match=message):
        load(records, "train")
    assert main([str(records)]) == 1
    assert str(records) in capsys.readouterr().err


def test_every_damaged_file_is_listed_at_once(records):
    (records / SHARD).unlink()
    path = records / "test-00000-of-00003.tfrecord"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecordIntegrityError) as caught:
        verify_records(records)
    assert len(str(caught.value).splitlines()) == 2


def test_without_verification_cut_and_missing_files_are_still_found_and_flips_when_met(records):
    flip_payload_byte(records)
    examples = iterate(records, "train", verify=False)
    assert next(examples)["unique_id"] == "object-0"
    with pytest.raises(RecordIntegrityError, match=r"train-00001-of-00003.tfrecord: record 2 .*checksum"):
        list(examples)
    cut_at_a_boundary(records)
    for read in (iterate, load):
        with pytest.raises(RecordIntegrityError, match="2 whole records"):
            read(records, "train", verify=False)


def test_verification_runs_once_per_process(records, monkeypatch):
    iterate(records, "train")

    def again(*args, **kwargs):
        raise RuntimeError("verified again")

    monkeypatch.setattr("data_pipeline.records.integrity.verify_records", again)
    iterate(records, "test")
    (records / SHARD).touch()
    with pytest.raises(RuntimeError, match="verified again"):
        iterate(records, "train")


def test_no_manifest_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest.json .*kspecsr data build"):
        load(tmp_path, "train")


def test_the_manifest_comes_back_and_its_hash_follows_its_contents(records):
    manifest = Manifest.read(records)
    assert manifest.count("train") == 10 and manifest.count("test") == 4
    assert manifest.grid == GRID and manifest.line_names == LINES
    assert manifest.steps[0] == StepCount("match", 10, 3, {"no grating": 2, "unreadable": 1})
    assert {"python", "numpy"} <= set(manifest.software)
    assert from_dict(Manifest, to_dict(manifest)) == manifest
    assert replace(manifest, seeds={"split": 2}).hash != manifest.hash
    settings = replace(manifest, augmentation={"trim_um": (1.0, 5.0)})
    assert from_dict(Manifest, to_dict(settings)) == settings
    assert not list(records.glob(".*"))


def test_the_prism_pixels_are_the_shipped_ones(records):
    prism = Manifest.read(records).prism
    assert prism.wavelength.size == SCHEMA.by_name["prism_flux"].shape[0]
    assert np.all(np.diff(prism.wavelength) > 0)
    with pytest.raises(ValueError, match=r"prism wavelengths: table .* install the version of kspecsr"):
        PrismPixels(sha256="0" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(notes="x"), "manifest: unknown key notes; known keys: schema, grid"),
        (lambda m: m.pop("grid"), "manifest: missing key grid"),
        (lambda m: m["grid"].update(end=5), r"manifest\.grid: unknown key end"),
        (lambda m: m["splits"]["train"][0].update(rows=5), r"manifest\.splits\.train\[0\]: unknown key rows"),
        (
            lambda m: m["grid"].update(sampling=400.0),
            r"'grating_flux' has shape \(10,\).* grid has 20 entries",
        ),
        (lambda m: m["steps"][0].update(dropped=9), "reasons add up to 3, but 9 were dropped"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(records, change, message):
    rewrite_manifest(records, change)
    with pytest.raises(RecordIntegrityError, match=message):
        Manifest.read(records)


def test_only_plain_json_values_enter_the_manifest():
    with pytest.raises(ValueError, match="manifest source: expected a mapping of plain JSON values"):
        Manifest(SCHEMA, GRID, LINES, {}, source={"path": Path("x")})
    with pytest.raises(ValueError, match="manifest augmentation"):
        Manifest(SCHEMA, GRID, LINES, {}, augmentation={"sigma": float("nan")})


def test_a_manifest_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        Manifest(SCHEMA, GRID, LINES, {}).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_shows_splits_and_steps(records, capsys):
    assert main([str(records)]) == 0
    out = capsys.readouterr().out
    size = sum(shard.n_bytes for shard in Manifest.read(records).splits["train"]) / 1e6
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["train"][1:4] == ["3", "10", f"{size:.1f}"]
    assert "2 no grating; 1 unreadable" in out and "6 shards whole" in out


def test_the_command_runs_as_a_module_with_its_exit_status(records):
    command = [sys.executable, "-m", "data_pipeline.records", str(records)]
    good = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert good.returncode == 0 and good.stdout.startswith("split")
    (records / SHARD).unlink()
    bad = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and f"{SHARD}: missing" in bad.stderr


def test_shards_round_trip_as_plain_data(records):
    shard = Manifest.read(records).splits["train"][0]
    assert set(asdict(shard)) == {"file", "count", "n_bytes", "sha256"}
