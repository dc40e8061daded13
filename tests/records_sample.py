"""Small record directories for the tests of data_pipeline.records."""

import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records import Manifest, ShardWriter, StepCount, record_schema

GRID = UnifiedGrid(start=1.0, stop=1.05, sampling=200.0)
LINES = ("[OIII]_5008", "Halpha")
SCHEMA = record_schema(GRID, line_names=LINES)
TEXTS = ("", "jades-deep/1181:00042", "Hα λ6565 ✓")


def random_example(rng, row=0, schema=SCHEMA):
    """Every field filled; floats of any bit pattern: NaN with payload, infinities and subnormals as well."""
    example = {}
    for field in schema.fields:
        if field.is_text:
            example[field.name] = TEXTS[row % len(TEXTS)]
        elif field.dtype == "bool":
            example[field.name] = rng.random(field.shape) < 0.3
        else:
            dtype = np.dtype(field.dtype)
            raw = rng.bytes(dtype.itemsize * int(np.prod(field.shape, dtype=int)))
            example[field.name] = np.frombuffer(raw, dtype).reshape(field.shape)
    return example | {"unique_id": f"object-{row}", "realisation": np.int32(row)}


def write_records(directory, counts, n_shards=3, seed=0):
    """A finished record directory; returns what was written, per split."""
    rng = np.random.default_rng(seed)
    written, shards = {}, {}
    for split, count in counts.items():
        written[split] = [random_example(rng, row) for row in range(count)]
        with ShardWriter(directory, split, SCHEMA, n_shards) as writer:
            for example in written[split]:
                writer.write(example)
        shards[split] = writer.shards
    Manifest(
        schema=SCHEMA,
        grid=GRID,
        line_names=LINES,
        splits=shards,
        seeds={"split": 1},
        steps=(StepCount("match", 10, 3, {"no grating": 2, "unreadable": 1}),),
    ).write(directory)
    return written


def assert_same(found, expected):
    """Bit for bit, type for type."""
    if isinstance(expected, str):
        assert found == expected
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()
