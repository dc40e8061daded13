import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.records import ShardWriter, iterate, load
from data_pipeline.records.manifest import Manifest
from data_pipeline.records.schema import Field, Schema
from records_sample import GRID, LINES, SCHEMA, assert_same, write_records

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {"train": 50, "validation": 7, "empty": 0}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    directory = tmp_path_factory.mktemp("records")
    return directory, write_records(directory, COUNTS, n_shards=4)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A split of 3,000 tiny records in two shards, numbered in the written order."""
    directory = tmp_path_factory.mktemp("many")
    schema = Schema((Field("row", (), "int64"), Field("name", (), "str")))
    with ShardWriter(directory, "train", schema, 2) as writer:
        for row in range(3000):
            writer.write({"row": row, "name": "x" * (row % 50)})
    Manifest(schema, GRID, LINES, {"train": writer.shards}).write(directory)
    return directory


def as_text(value):
    """TensorFlow's byte strings as the texts that were written."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.array([item.decode() for item in value], dtype=object)
    return value


def rows(dataset):
    return np.concatenate([np.atleast_1d(batch["row"]) for batch in dataset])


@pytest.mark.parametrize("split", COUNTS)
@pytest.mark.parametrize("read", [iterate, lambda *a: load(*a).as_numpy_iterator()], ids=["NumPy", "tf.data"])
def test_single_examples_are_what_was_written_in_the_written_order(records, split, read):
    directory, written = records
    found = list(read(directory, split))
    assert len(found) == COUNTS[split]
    for example, expected in zip(found, written[split], strict=True):
        assert sorted(example) == sorted(SCHEMA.names)
        for name, value in expected.items():
            assert_same(as_text(example[name]), value)


@pytest.mark.parametrize("batch_size", [1, 8, 50, 64])
def test_batches_are_equal_in_both_readers_and_to_what_was_written(records, batch_size):
    directory, written = records
    by_numpy = list(iterate(directory, "train", batch_size))
    by_tensorflow = list(load(directory, "train", batch_size).as_numpy_iterator())
    assert len(by_numpy) == len(by_tensorflow) == -(-50 // batch_size)
    for number, (ours, theirs) in enumerate(zip(by_numpy, by_tensorflow, strict=True)):
        expected = written["train"][number * batch_size : (number + 1) * batch_size]
        for field in SCHEMA.fields:
            column = [example[field.name] for example in expected]
            if field.is_text:
                assert list(ours[field.name]) == column == list(as_text(theirs[field.name]))
            else:
                assert_same(ours[field.name], np.stack(column))
                assert_same(theirs[field.name], np.stack(column))


def test_a_dataset_states_shapes_types_and_length(records):
    dataset = load(records[0], "train", 8, drop_remainder=True)
    spec = dataset.element_spec
    assert spec["prism_flux"] == tf.TensorSpec((8, 706), tf.float32)
    assert spec["grating_mask"] == tf.TensorSpec((8, GRID.size), tf.bool)
    assert spec["redshift"] == tf.TensorSpec((8,), tf.float64)
    assert spec["realisation"] == tf.TensorSpec((8,), tf.int32)
    assert spec["unique_id"] == tf.TensorSpec((8,), tf.string)
    assert int(dataset.cardinality()) == 6
    assert load(records[0], "train").element_spec["line_flux"] == tf.TensorSpec((len(LINES),), tf.float32)
    assert load(records[0], "train", 8).element_spec["ra"] == tf.TensorSpec((None,), tf.float64)


@pytest.mark.parametrize("shuffle_seed", [None, 3])
def test_the_first_examples_can_be_left_out(records, shuffle_seed):
    directory, _ = records
    every = list(iterate(directory, "train", shuffle_seed=shuffle_seed))
    for first in (0, 7, 50, 60):
        rest = list(iterate(directory, "train", shuffle_seed=shuffle_seed, first=first))
        assert [str(row["unique_id"]) for row in rest] == [str(row["unique_id"]) for row in every[first:]]
    with pytest.raises(ValueError, match="expected first of 0 or more, got -1"):
        iterate(directory, "train", first=-1)


def test_a_short_last_batch_is_kept_or_dropped(records):
    for read in (iterate, load):
        assert [len(batch["ra"]) for batch in read(records[0], "validation", 3)] == [3, 3, 1]
        assert [len(batch["ra"]) for batch in read(records[0], "validation", 3, drop_remainder=True)] == [
            3,
            3,
        ]


def test_repeated_batches_run_on_across_the_end_of_a_pass(records):
    found = load(records[0], "validation", 5, repeat=True, fields=["unique_id"])
    ids = [name.decode() for batch in islice(found.as_numpy_iterator(), 7) for name in batch["unique_id"]]
    assert ids == [f"object-{row}" for row in range(7)] * 5


def test_only_the_selected_fields_are_read(records):
    directory, written = records
    wanted = {"redshift", "unique_id", "prism_mask"}
    for found in (
        next(iterate(directory, "train", fields=wanted)),
        next(load(directory, "train", fields=wanted).as_numpy_iterator()),
    ):
        assert set(found) == wanted
        for name in wanted:
            assert_same(as_text(found[name]), written["train"][0][name])


@pytest.mark.parametrize("read", [iterate, load])
def test_wrong_requests_are_answered_with_what_there_is(records, read):
    with pytest.raises(ValueError, match="no split 'test'; these records hold: train, validation, empty"):
        read(records[0], "test")
    with pytest.raises(ValueError, match="unknown field flux; the records hold: prism_flux, prism_error"):
        read(records[0], "train", fields=["flux"])
    with pytest.raises(ValueError, match="no field chosen"):
        read(records[0], "train", fields=[])
    with pytest.raises(ValueError, match="batch size of 1 or more, got 0"):
        read(records[0], "train", 0)


@pytest.mark.parametrize("read", [iterate, load])
def test_a_shuffle_is_a_reproducible_permutation_over_the_whole_split(many, read):
    first = rows(read(many, "train", 64, shuffle_seed=7))
    assert sorted(first) == list(range(3000))
    np.testing.assert_array_equal(first, rows(read(many, "train", 64, shuffle_seed=7)))
    assert not np.array_equal(first, rows(read(many, "train", 64, shuffle_seed=8)))
    # A buffer of 512 alone leaves 0.86 here: place and row stay correlated.
    assert abs(np.corrcoef(np.arange(3000), first)[0, 1]) < 0.15
    # Rows written one after the other seldom come within 64 of each other: 0.04 by chance, 0.13 by a buffer.
    assert np.mean(np.abs(np.diff(np.argsort(first))) < 64) < 0.08


def test_each_pass_over_a_shuffled_dataset_has_another_order(many):
    dataset = load(many, "train", 64, shuffle_seed=7)
    first, second = rows(dataset), rows(dataset)
    assert not np.array_equal(first, second) and sorted(second) == list(range(3000))
    endless = load(many, "train", 100, shuffle_seed=7, repeat=True)
    passes = rows(islice(endless, 60)).reshape(2, 3000)
    assert [sorted(order) for order in passes] == [list(range(3000))] * 2
    assert not np.array_equal(*passes)


def test_an_empty_split_can_be_shuffled(records):
    assert list(load(records[0], "empty", 4, shuffle_seed=1)) == []
    assert list(iterate(records[0], "empty", 4, shuffle_seed=1)) == []


def test_overtaking_reads_lose_nothing(many):
    found = rows(load(many, "train", 64, shuffle_seed=1, deterministic=False))
    assert sorted(found) == list(range(3000))


def test_examples_are_the_callers_own_arrays(records):
    example = next(iterate(records[0], "train"))
    before = example["prism_flux"].copy()
    example["prism_flux"][:] = 0
    assert_same(next(iterate(records[0], "train"))["prism_flux"], before)


def test_a_dataset_feeds_a_compiled_function(records):
    @tf.function
    def good_pixels(batch):
        return tf.reduce_sum(tf.cast(~batch["prism_mask"], tf.int32))

    dataset = load(records[0], "train", 10, fields=["prism_mask"])
    found = sum(int(good_pixels(batch)) for batch in dataset)
    assert found == sum(int((~example["prism_mask"]).sum()) for example in records[1]["train"])


def test_numpy_alone_reads_the_records(records):
    script = (
        "import sys\n"
        "blocked = ('tensorflow', 'keras', 'google_crc32c', 'astropy', 'scipy', 'google.protobuf')\n"
        "sys.modules.update(dict.fromkeys(blocked))\n"
        "from data_pipeline.records import iterate\n"
        "print(sum(len(batch['ra']) for batch in iterate(sys.argv[1], 'train', 8, shuffle_seed=1)))\n"
        "print(*[name for name in blocked if sys.modules[name] is not None])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(records[0])], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["50"], run.stderr


def test_importing_the_package_does_not_import_tensorflow():
    script = "import sys, data_pipeline.records; print('tensorflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
