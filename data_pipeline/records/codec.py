"""Between arrays and serialised examples, checked against the schema in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_pipeline.records.example import decode_example, decode_in_layout, feature_header, join_example
from data_pipeline.records.schema import Field, RecordFormatError, Schema

_NUMBER_KINDS = {"float64": "fiu", "float32": "fiu", "int32": "iu", "int64": "iu", "bool": "b"}


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
    return array.view(np.bool_) if field.dtype == "bool" else array


class ExampleCodec:
    """Serialises and parses records of one schema.

    Args:
        schema: what a record holds.
        fields: names to parse; others are skipped. None for all.
    """

    def __init__(self, schema: Schema, fields: Iterable[str] | None = None) -> None:
        self.schema = schema
        self.selected = schema.select(fields)
        self._selected_names = frozenset(field.name for field in self.selected)
        # By name, as protobuf's deterministic serialisation orders a map: the same input gives the same file.
        self._sorted = sorted(schema.fields, key=lambda field: field.name)
        # name, bytes before the payload, length of the payload; texts vary in length
        self._layout = [
            (field.name, None, 0)
            if field.is_text
            else (field.name, feature_header(field.name, field.n_bytes), field.n_bytes)
            for field in self._sorted
        ]

    def serialise(self, example: Mapping[str, Any]) -> bytes:
        """One record.

        Args:
            example: value of every field of the schema, and of no other.

        Raises:
            RecordFormatError: naming the field, what was received and what is expected.
        """
        if example.keys() != self.schema.by_name.keys():
            self._refuse_keys(example)
        parts: list[bytes] = []
        for field, (name, header, _) in zip(self._sorted, self._layout, strict=True):
            payload = field_bytes(field, example[name])
            parts += (header or feature_header(name, len(payload)), payload)
        return join_example(parts)

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
