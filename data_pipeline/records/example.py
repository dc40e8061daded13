"""`tf.train.Example` without TensorFlow: the bytes of its protobuf message, both ways.

Build workers and machines that train with other frameworks have no TensorFlow. Only what the records use is
spoken: every feature is a list of one byte string. Message layout (tensorflow/core/example/example.proto)::

    Example   { Features features = 1; }
    Features  { map<string, Feature> feature = 1; }   entry: { key = 1; value = 2; }
    Feature   { BytesList bytes_list = 1; | FloatList float_list = 2; | Int64List int64_list = 3; }
    BytesList { repeated bytes value = 1; }

All of them are length-delimited (wire type 2): tag byte, length as a base-128 integer, payload.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from data_pipeline.records.schema import RecordFormatError

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


def feature_header(name: str, length: int) -> bytes:
    """All bytes of a map entry that precede the payload.

    Args:
        name: feature name.
        length: bytes of the payload.
    """
    value = b"\x0a" + varint(length)  # BytesList.value
    bytes_list = b"\x0a" + varint(len(value) + length)  # Feature.bytes_list
    size = len(bytes_list) + len(value) + length
    key = name.encode("utf-8")
    entry = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(size)
    return b"\x0a" + varint(len(entry) + size) + entry + bytes_list + value


def join_example(parts: list[bytes]) -> bytes:
    """The message, from headers and payloads in turn, in the order of their names."""
    size = sum(map(len, parts))
    return b"".join([b"\x0a", varint(size), *parts])


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """The message with one byte string per feature, in the order of the names."""
    parts: list[bytes] = []
    for name in sorted(features):
        parts += (feature_header(name, len(features[name])), features[name])
    return join_example(parts)


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
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

    Args:
        data: serialised ``tf.train.Example``.
        names: features wanted; others are skipped. None for all.

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
    """What ``decode_example`` gives, several times faster, for a message of a known layout.

    Args:
        data: serialised ``tf.train.Example``.
        layout: in the order of the message: name, ``feature_header`` and length of each payload; None and 0
            where the length varies.

    Returns:
        Payload by name; None if the message, though perhaps valid, is laid out otherwise.
    """
    if data[:1] != b"\x0a":
        return None
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
    """Where the single byte string of a Feature message lies."""
    values = []
    for tag, list_at, list_end in _fields(data, at, end):
        if tag != FIELD_1:
            raise RecordFormatError(f"field {name!r}: expected a bytes_list, received a {_KINDS[tag]}")
        values += [(first, last) for _, first, last in _fields(data, list_at, list_end)]
    if len(values) != 1:
        raise RecordFormatError(f"field {name!r}: expected one byte string, received {len(values)}")
    return values[0]
