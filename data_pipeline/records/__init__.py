"""Training records: schema, writer, manifest, integrity, and readers with and without TensorFlow."""

from data_pipeline.records.codec import ExampleCodec
from data_pipeline.records.integrity import verify_records
from data_pipeline.records.manifest import Manifest, PrismPixels, StepCount
from data_pipeline.records.reading import iterate, load
from data_pipeline.records.schema import (
    FLUX_UNIT_IN_RECORDS,
    SCHEMA_VERSION,
    Field,
    RecordFormatError,
    RecordIntegrityError,
    Schema,
    record_schema,
)
from data_pipeline.records.shards import Shard, ShardWriter, shard_count
