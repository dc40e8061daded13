import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records import (
    RecordFormatError,
    RecordIntegrityError,
    ShardWriter,
    record_schema,
    shard_count,
)
from data_pipeline.records.shards import frame, masked_crc32c, read_records, record_bytes, record_positions
from records_sample import SCHEMA, random_example, write_records

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def example():
    return random_example(np.random.default_rng(3))


def test_crc32c_is_the_published_one():
    # RFC 3720 (iSCSI), appendix B.4: 32 bytes of zeros; unmasked 0x8a9136aa.
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_files_equal_tensorflows_and_each_reads_the_others(tmp_path_factory, payloads):
    folder = tmp_path_factory.mktemp("tfrecord")
    theirs = folder / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for payload in payloads:
            writer.write(payload)
    ours = b"".join(frame(payload)[0] + payload + frame(payload)[1] for payload in payloads)
    assert theirs.read_bytes() == ours
    assert list(read_records(theirs)) == payloads
    assert [length for _, length in record_positions(theirs)] == [len(payload) for payload in payloads]


def test_tensorflow_reads_our_shards(tmp_path):
    written = write_records(tmp_path, {"train": 7}, n_shards=2)
    ids = []
    for data in tf.data.TFRecordDataset(sorted(map(str, tmp_path.glob("*.tfrecord")))):
        message = tf.train.Example.FromString(data.numpy())
        ids.append(message.features.feature["unique_id"].bytes_list.value[0].decode())
    assert ids == [written["train"][row]["unique_id"] for row in (0, 2, 4, 6, 1, 3, 5)]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0, "record 1 at byte {at}: the checksum of its length"),
        (7, "record 1 at byte {at}: the checksum of its length"),
        (9, "record 1 at byte {at}: the checksum of its length"),
        (12, "record 1 at byte {at}: the checksum of its payload"),
        (4000, "record 1 at byte {at}: the checksum of its payload"),
        (-1, "record 0 at byte 0: the checksum of its payload"),
    ],
)
def test_a_flipped_bit_is_found_where_it_is(tmp_path, example, at, message):
    with ShardWriter(tmp_path, "train", SCHEMA) as writer:
        for _ in range(3):
            writer.write(example)
    path = tmp_path / writer.shards[0].file
    data = bytearray(path.read_bytes())
    second = int(record_positions(path)[1, 0]) - 12
    data[second + at] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(RecordIntegrityError, match=rf"of-00001.tfrecord: {message.format(at=second)}"):
        list(read_records(path))


@pytest.mark.parametrize("missing", [1, 4, 5, 500])
def test_a_cut_within_a_record_is_found(tmp_path, example, missing):
    with ShardWriter(tmp_path, "train", SCHEMA) as writer:
        writer.write(example)
        writer.write(example)
    path = tmp_path / writer.shards[0].file
    path.write_bytes(path.read_bytes()[:-missing])
    for read in (record_positions, lambda file: list(read_records(file))):
        with pytest.raises(RecordIntegrityError, match=r"record 1 at byte \d+ is cut off"):
            read(path)
    path.write_bytes(path.read_bytes() + b"\0" * missing + b"abc")
    for read in (record_positions, lambda file: list(read_records(file))):
        with pytest.raises(RecordIntegrityError, match=r"record [12] at byte \d+"):
            read(path)


def test_shards_take_turns_and_state_what_is_on_disk(tmp_path, example):
    with ShardWriter(tmp_path, "train", SCHEMA, n_shards=3) as writer:
        for _ in range(7):
            writer.write(example)
        assert not list(tmp_path.glob("*.tfrecord"))
        with pytest.raises(RuntimeError, match="not finished"):
            _ = writer.shards
    assert [shard.count for shard in writer.shards] == [3, 2, 2]
    for shard in writer.shards:
        data = (tmp_path / shard.file).read_bytes()
        assert shard.n_bytes == len(data)
        assert shard.sha256 == hashlib.sha256(data).hexdigest()
        assert len(record_positions(tmp_path / shard.file)) == shard.count
    assert sorted(p.name for p in tmp_path.iterdir()) == [shard.file for shard in writer.shards]


def test_an_exception_leaves_nothing(tmp_path, example):
    wrong = example | {"grating_flux": example["grating_flux"][:-1]}
    with (
        pytest.raises(RecordFormatError, match=r"split 'train', row 1 \(object-0\): field 'grating_flux'"),
        ShardWriter(tmp_path, "train", SCHEMA, 2) as writer,
    ):
        writer.write(example)
        writer.write(wrong)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path, example):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "train", SCHEMA) as writer:
        writer.write(example)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failure_among_the_renames_leaves_nothing(tmp_path, example, monkeypatch):
    replace = os.replace

    def second_fails(source, target):
        if "00001-of" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with (
        pytest.raises(OSError, match=r"the disk is full: free space .*train-00001-of-00003") as caught,
        ShardWriter(tmp_path, "train", SCHEMA, 3) as writer,
    ):
        writer.write(example)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_real_write_failure_says_what_to_do_and_leaves_nothing(tmp_path):
    script = (
        "import resource, sys, numpy as np\n"
        "from records_sample import SCHEMA, random_example\n"
        "from data_pipeline.records import ShardWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "example = random_example(np.random.default_rng(0))\n"
        "try:\n"
        "    with ShardWriter(sys.argv[1], 'train', SCHEMA) as writer:\n"
        "        for _ in range(1000): writer.write(example)\n"
        "except OSError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "could not write records after" in run.stdout and "use more shards" in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_is_cleaned_up_by_the_next(tmp_path, example):
    script = (
        "import os, signal, sys, numpy as np\n"
        "from records_sample import SCHEMA, random_example\n"
        "from data_pipeline.records import ShardWriter\n"
        "with ShardWriter(sys.argv[1], 'train', SCHEMA, 4) as writer:\n"
        "    writer.write(random_example(np.random.default_rng(0)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 4 and not list(tmp_path.glob("*.tfrecord"))
    (tmp_path / "train-00000-of-00009.tfrecord").touch()
    (tmp_path / "test-00000-of-00001.tfrecord").touch()
    with ShardWriter(tmp_path, "train", SCHEMA) as writer:
        writer.write(example)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["test-00000-of-00001.tfrecord", "train-00000-of-00001.tfrecord"]


def test_finished_records_are_not_overwritten(tmp_path):
    write_records(tmp_path, {"train": 2})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(FileExistsError, match="already holds finished records"),
        ShardWriter(tmp_path, "train", SCHEMA),
    ):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_path_through_a_file_and_a_refused_folder_are_explained(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    with (
        pytest.raises(NotADirectoryError, match="a part of the path is a file"),
        ShardWriter(file / "records", "train", SCHEMA),
    ):
        pass

    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with (
        pytest.raises(PermissionError, match="no permission to write"),
        ShardWriter(tmp_path / "x", "train", SCHEMA),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("../train", SCHEMA), "expected a split name"),
        (("train", SCHEMA, 0), "expected 1 to 512 shards, got 0"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        ShardWriter(tmp_path, *arguments)


def test_writing_outside_the_block_is_refused(tmp_path, example):
    with pytest.raises(RuntimeError, match="use it as"):
        ShardWriter(tmp_path, "train", SCHEMA).write(example)


@given(st.integers(0, 500_000))
def test_shards_hold_100_to_200_megabytes(n_rows):
    schema = record_schema(UnifiedGrid(), line_names=load_lines().names)
    n_shards = shard_count(n_rows, schema)
    size = n_rows * record_bytes(schema) / n_shards
    assert size <= 200e6
    assert n_shards == 1 or size >= 100e6


def test_the_estimated_size_of_a_record_is_the_real_one(tmp_path, example):
    schema = record_schema(UnifiedGrid(), line_names=load_lines().names)
    big = random_example(np.random.default_rng(0), schema=schema)
    with ShardWriter(tmp_path, "train", schema) as writer:
        writer.write(big)
    assert record_bytes(schema) == pytest.approx(writer.shards[0].n_bytes, rel=0.01)
