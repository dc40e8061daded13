"""Between arrays and serialised examples, checked against the schema in both directions.

A record is a `tf.train.Example`, written and read without TensorFlow: build workers and machines that train
with other frameworks have none. Only what the records use is spoken: every feature is a list of one byte
string. Message layout (tensorflow/core/example/example.proto)::

    Example   { Features features = 1; }
    Features  { map<string, Feature> feature = 1; }   entry: { key = 1; value = 2; }
    Feature   { BytesList bytes_list = 1; | FloatList float_list = 2; | Int64List int64_list = 3; }
    BytesList { repeated bytes value = 1; }

All of them are length-delimited (wire type 2): tag byte, length as a base-128 integer, payload.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from data_pipeline.records.schema import Field, RecordFormatError, Schema

_NUMBER_KINDS = {"float64": "fiu", "float32": "fiu", "int32": "iu", "int64": "iu", "bool": "b"}
# Tags of fields 1 to 3 of a message, all length-delimited.
FIELD_1 = 0x0A
FIELD_2 = 0x12
FIELD_3 = 0x1A
_KINDS = {FIELD_2: "float_list", FIELD_3: "int64_list"}


def varint(number: int) -> bytes:
    """A number >= 0 as a base-128 integer, least significant seven bits first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@lru_cache(maxsize=1024)  # arrays have the same length in every record
def feature_header(name: str, length: int) -> bytes:
    """All bytes of a map entry that precede a payload of ``length`` bytes."""
    value = b"\x0a" + varint(length)  # BytesList.value
    bytes_list = b"\x0a" + varint(len(value) + length)  # Feature.bytes_list
    size = len(bytes_list) + len(value) + length
    key = name.encode("utf-8")
    entry = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(size)
    return b"\x0a" + varint(len(entry) + size) + entry + bytes_list + value


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """The message with one byte string per feature, in the order of the names.

    So does protobuf's deterministic serialisation order a map: the same input gives the same file.
    """
    parts: list[bytes] = []
    for name in sorted(features):
        parts += (feature_header(name, len(features[name])), features[name])
    return b"".join([b"\x0a", varint(sum(map(len, parts))), *parts])


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
    # Bounded: in damaged bytes the high bit may be set for ever.
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise RecordFormatError(f"no tf.train.Example: length cut off or too long at byte {at}")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tag, first and last-plus-one byte of each length-delimited field of a message."""
    while at < end:
        tag = data[at]
        # Whatever else protobuf allows (other wire types, unknown fields) is in no record, and skipping it
        # would hide damage.
        if tag not in (FIELD_1, FIELD_2, FIELD_3):
            raise RecordFormatError(f"no tf.train.Example: unexpected tag 0x{tag:02x} at byte {at}")
        size, at = _read_varint(data, at + 1, end)
        if at + size > end:
            raise RecordFormatError(
                f"no tf.train.Example: a field of {size} bytes at byte {at} runs beyond the end at {end}"
            )
        yield tag, at, at + size
        at += size


def decode_example(data: bytes, names: Container[str] | None = None) -> dict[str, memoryview]:
    """The byte string of each feature, without copying.

    Features other than ``names`` are skipped; None is for all.

    Raises:
        RecordFormatError: for bytes that are no such message, or a feature that is not one byte string.
    """
    view = memoryview(data)
    features: dict[str, memoryview] = {}
    for _, features_at, features_end in _fields(data, 0, len(data)):
        for _, at, end in _fields(data, features_at, features_end):
            name, value = _entry(data, at, end)
            if names is None or name in names:
                first, last = _only_bytes(data, name, *value)
                features[name] = view[first:last]
    return features


def decode_in_layout(
    data: bytes, layout: Sequence[tuple[str, bytes | None, int]]
) -> dict[str, memoryview] | None:
    """As ``decode_example``, several times faster, for a message of a known layout.

    The layout gives, in the order of the message, name, ``feature_header`` and length of each payload; None
    and 0 where the length varies. None is returned for a message, though perhaps valid, of another layout.
    """
    if data[:1] != b"\x0a":
        return None
    # Not an error here: records of another writer may order their map otherwise, and the slow way reads them.
    size, at = _read_varint(data, 1, len(data))
    if at + size != len(data):
        return None
    view = memoryview(data)
    features = {}
    for name, header, length in layout:
        if header is None:
            if data[at : at + 1] != b"\x0a":
                return None
            size, at = _read_varint(data, at + 1, len(data))
            end = at + size
            found, value = _entry(data, at, end) if end <= len(data) else ("", (0, 0))
            if found != name:
                return None
            first, end = _only_bytes(data, name, *value)
        else:
            first = at + len(header)
            end = first + length
            # One comparison of the bytes that are the same in every record, instead of a walk through five
            # nested messages.
            if not data.startswith(header, at) or end > len(data):
                return None
        features[name] = view[first:end]
        at = end
    return features if at == len(data) else None


def _entry(data: bytes, at: int, end: int) -> tuple[str, tuple[int, int]]:
    """Name of a map entry, and where its Feature message lies."""
    name, value = b"", (end, end)
    for tag, first, last in _fields(data, at, end):
        if tag == FIELD_1:
            name = data[first:last]
        else:
            value = (first, last)
    try:
        return name.decode("utf-8"), value
    except UnicodeDecodeError as error:
        raise RecordFormatError(f"no tf.train.Example: feature name {name!r} is not UTF-8") from error


def _only_bytes(data: bytes, name: str, at: int, end: int) -> tuple[int, int]:
    """First and last-plus-one byte of the single byte string of a Feature message."""
    values = []
    for tag, list_at, list_end in _fields(data, at, end):
        if tag != FIELD_1:
            raise RecordFormatError(f"field {name!r}: expected a bytes_list, received a {_KINDS[tag]}")
        values += [(first, last) for _, first, last in _fields(data, list_at, list_end)]
    if len(values) != 1:
        raise RecordFormatError(f"field {name!r}: expected one byte string, received {len(values)}")
    return values[0]


def _received(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, dtype {value.dtype}"
    return f"{type(value).__name__} {value!r}"[:80]


def _expected(field: Field) -> str:
    if field.is_text:
        return "text (str)"
    return f"shape {field.shape}, dtype {field.dtype}" + (f", in {field.unit}" if field.unit else "")


def _refuse(field: Field, value: Any, cure: str) -> RecordFormatError:
    return RecordFormatError(
        f"field {field.name!r}: received {_received(value)}; expected {_expected(field)}; {cure}"
    )


def field_bytes(field: Field, value: Any) -> bytes:
    """The payload of one field.

    Arrays must have the schema's shape and type exactly: a silent cast to float32 is where fluxes of 1e-40
    and unit mistakes disappear. Numbers may be Python's or NumPy's as long as the value is kept.

    Raises:
        RecordFormatError: naming the field, what was received and what is expected.
    """
    if field.is_text:
        if not isinstance(value, str):
            raise _refuse(field, value, "give a str; decode bytes first")
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _refuse(field, value, "it holds a character that UTF-8 cannot write") from error
    array = np.asarray(value)
    if array.shape != field.shape:
        raise _refuse(field, array, "give one value per pixel or line of the schema's grid")
    if not field.shape and array.dtype.kind in _NUMBER_KINDS[field.dtype]:
        return _number(field, value, array)
    # A big-endian array (FITS has them) is the same numbers; another type is not.
    if array.dtype.newbyteorder("=") != np.dtype(field.dtype):
        raise _refuse(field, array, f"convert with numpy.asarray(x, dtype={field.dtype!r})")
    return array.astype(field.disk_dtype, order="C", copy=False).tobytes()


def _number(field: Field, value: Any, array: np.ndarray) -> bytes:
    if field.dtype.startswith("int"):
        limits = np.iinfo(field.dtype)
        if not limits.min <= int(array) <= limits.max:
            raise _refuse(field, value, f"it lies outside {limits.min}..{limits.max}")
    return array.astype(field.disk_dtype).tobytes()


def field_value(field: Field, payload: memoryview) -> np.ndarray | str:
    """The read-only array, number (shape ()) or text of a payload; inverse of ``field_bytes``.

    Raises:
        RecordFormatError: for another length than the schema's, text that is not UTF-8.
    """
    if field.is_text:
        try:
            return str(payload, "utf-8")
        except UnicodeDecodeError as error:
            raise RecordFormatError(f"field {field.name!r}: the text is not UTF-8: {error}") from error
    if len(payload) != field.n_bytes:
        raise RecordFormatError(
            f"field {field.name!r}: received {len(payload)} bytes; "
            f"expected {field.n_bytes} ({_expected(field)})"
        )
    array = np.frombuffer(payload, field.disk_dtype).reshape(field.shape)
    # A view of bytes 0 and 1 costs nothing; `astype` would copy every mask.
    return array.view(np.bool_) if field.dtype == "bool" else array


class ExampleCodec:
    """Serialiser of records of one schema, and parser of the chosen fields; all for None."""

    def __init__(self, schema: Schema, fields: Iterable[str] | None = None) -> None:
        self.schema = schema
        self.selected = schema.select(fields)
        self._selected_names = frozenset(field.name for field in self.selected)
        # Name, bytes before the payload and length of the payload, as encoded; texts vary in length.
        self._layout = [
            (field.name, None, 0)
            if field.is_text
            else (field.name, feature_header(field.name, field.n_bytes), field.n_bytes)
            for field in sorted(schema.fields, key=lambda field: field.name)
        ]

    def serialise(self, example: Mapping[str, Any]) -> bytes:
        """One record, from the value of every field of the schema and of no other.

        Raises:
            RecordFormatError: naming the field, what was received and what is expected.
        """
        if example.keys() != self.schema.by_name.keys():
            self._refuse_keys(example)
        return encode_example({f.name: field_bytes(f, example[f.name]) for f in self.schema.fields})

    def _refuse_keys(self, received: Iterable[str]) -> None:
        known = set(self.schema.names)
        unknown = sorted(map(str, set(received) - known))
        if unknown:
            raise RecordFormatError(
                f"unknown field {', '.join(unknown)} received; expected only: {', '.join(self.schema.names)}"
            )
        missing = [name for name in self.schema.names if name not in received]
        raise RecordFormatError(
            f"missing field {', '.join(missing)}; expected {_expected(self.schema.by_name[missing[0]])}"
            f"{' for the first' if len(missing) > 1 else ''}; every field of the schema must be given"
        )

    def parse(self, data: bytes) -> dict[str, np.ndarray | str]:
        """Selected fields of one record, as read-only arrays on the record's own memory.

        Raises:
            RecordFormatError: for bytes that do not follow the schema, naming the field.
        """
        payloads = decode_in_layout(data, self._layout) or decode_example(data, self._selected_names)
        missing = sorted(self._selected_names - payloads.keys())
        if missing:
            raise RecordFormatError(f"the record lacks field {', '.join(missing)}")
        return {field.name: field_value(field, payloads[field.name]) for field in self.selected}

    def check(self, data: bytes) -> None:
        """Parse everything and refuse fields that the schema does not know.

        Raises:
            RecordFormatError: naming the field.
        """
        payloads = decode_example(data)
        if payloads.keys() != self.schema.by_name.keys():
            self._refuse_keys(payloads)
        for field in self.schema.fields:
            field_value(field, payloads[field.name])
