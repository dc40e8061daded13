import re
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_pipeline.configuration import from_dict, to_dict
from data_pipeline.records import ExampleCodec, Field, RecordFormatError, Schema
from data_pipeline.records.codec import decode_example, decode_in_layout, encode_example
from records_sample import SCHEMA, assert_same, random_example

FEATURES = st.dictionaries(st.text(max_size=20), st.binary(max_size=300), max_size=6)
SMALL = Schema(
    (
        Field("z_flux", (5,), "float32", "Jy"),
        Field("cube", (2, 3), "float64"),
        Field("mask", (4,), "bool"),
        Field("known", (), "bool"),
        Field("redshift", (), "float64"),
        Field("count", (), "int32"),
        Field("group", (), "int64"),
        Field("name", (), "str"),
        Field("a_note", (), "str"),
    )
)
EXAMPLES = st.fixed_dictionaries(
    {
        "z_flux": hnp.arrays(np.float32, 5, elements=st.floats(width=32)),
        "cube": hnp.arrays(np.float64, (2, 3), elements=st.floats()),
        "mask": hnp.arrays(np.bool_, 4),
        "known": st.booleans().map(np.bool_),
        "redshift": st.floats().map(np.float64),
        "count": st.integers(-(2**31), 2**31 - 1).map(np.int32),
        "group": st.integers(-(2**63), 2**63 - 1).map(np.int64),
        "name": st.text(max_size=300),
        "a_note": st.text(max_size=300),
    }
)


def tensorflow_example(features):
    message = tf.train.Example()
    for name, value in features.items():
        message.features.feature[name].bytes_list.value.append(value)
    return message


def example_from(small, **changes):
    return {
        "z_flux": np.zeros(5, np.float32),
        "cube": np.zeros((2, 3)),
        "mask": np.zeros(4, bool),
        "known": True,
        "redshift": 1.5,
        "count": 3,
        "group": 4,
        "name": "n",
        "a_note": "",
    } | changes


@given(FEATURES)
def test_messages_equal_tensorflows_bit_for_bit(features):
    names = sorted(name.encode() for name in features)
    # protobuf's Python implementation puts "ab" before "a", its C++ one (and this one) after it.
    assume(names and not any(b.startswith(a) for a, b in pairwise(names)))
    assert encode_example(features) == tensorflow_example(features).SerializeToString(deterministic=True)


@given(FEATURES)
def test_each_side_reads_the_others_messages(features):
    message = tensorflow_example(features)
    decoded = decode_example(message.SerializeToString())
    assert {name: bytes(value) for name, value in decoded.items()} == features
    read = tf.train.Example.FromString(encode_example(features)).features.feature
    assert {name: list(value.bytes_list.value) for name, value in read.items()} == {
        name: [value] for name, value in features.items()
    }


@pytest.mark.parametrize("length", [0, 1, 114, 127, 128, 16_370, 16_383, 16_384, 2_097_152])
def test_lengths_at_the_steps_of_the_base_128_integer(length):
    features = {"flux": b"\x01" * length, "id": b""}
    expected = tensorflow_example(features).SerializeToString(deterministic=True)
    assert encode_example(features) == expected
    assert len(decode_example(expected)["flux"]) == length


def test_other_kinds_of_list_are_refused_by_name():
    message = tf.train.Example()
    message.features.feature["redshift"].float_list.value.append(1.0)
    with pytest.raises(RecordFormatError, match="'redshift': expected a bytes_list, received a float_list"):
        decode_example(message.SerializeToString())
    message = tensorflow_example({"id": b"a"})
    message.features.feature["id"].bytes_list.value.append(b"b")
    with pytest.raises(RecordFormatError, match="'id': expected one byte string, received 2"):
        decode_example(message.SerializeToString())


def test_every_truncation_of_a_message_is_refused():
    data = encode_example({"flux": b"\x00" * 200, "id": b"abc"})
    for end in range(1, len(data)):
        with pytest.raises(RecordFormatError, match=r"no tf.train.Example"):
            decode_example(data[:end])


@given(st.binary(max_size=60))
def test_random_bytes_decode_or_are_refused_and_nothing_else(data):
    try:
        assert isinstance(decode_example(data), dict)
    except RecordFormatError as error:
        assert str(error)


@given(EXAMPLES)
@settings(max_examples=200)
def test_any_array_and_text_survives_bit_for_bit(example):
    codec = ExampleCodec(SMALL)
    data = codec.serialise(example)
    parsed = codec.parse(data)
    assert list(parsed) == list(SMALL.names)
    for name, value in example.items():
        assert_same(parsed[name], value)
    in_layout = decode_in_layout(data, codec._layout)
    assert in_layout == decode_example(data)


@given(EXAMPLES)
def test_records_with_another_order_of_fields_parse_too(example):
    codec = ExampleCodec(SMALL)
    features = decode_example(codec.serialise(example))
    message = b"".join(encode_example({name: bytes(features[name])}) for name in SMALL.names)
    for name, value in codec.parse(message).items():
        assert_same(value, example[name])


def test_tensorflow_parses_what_the_codec_writes():
    example = random_example(np.random.default_rng(1))
    message = tf.train.Example.FromString(ExampleCodec(SCHEMA).serialise(example))
    assert set(message.features.feature) == set(SCHEMA.names)
    flux = message.features.feature["grating_flux"].bytes_list.value[0]
    assert flux == example["grating_flux"].astype("<f4").tobytes()
    assert message.features.feature["prism_mask"].bytes_list.value[0] == bytes(example["prism_mask"].tolist())


def test_byte_order_and_strides_do_not_matter():
    codec = ExampleCodec(SMALL)
    flux = np.arange(10, dtype=np.float32)
    plain = codec.serialise(example_from(SMALL, z_flux=flux[::2].copy(), cube=np.arange(6.0).reshape(2, 3)))
    odd = example_from(SMALL, z_flux=flux[::2].astype(">f4"), cube=np.arange(6.0).reshape(2, 3).T.copy().T)
    assert codec.serialise(odd) == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"z_flux": np.zeros(4, np.float32)},
            r"'z_flux': received an array of shape \(4,\).*shape \(5,\), .*Jy",
        ),
        (
            {"z_flux": np.zeros(5)},
            r"'z_flux': received .*float64; expected shape \(5,\), dtype float32.*asarray",
        ),
        ({"z_flux": np.zeros(5, np.float16)}, r"'z_flux': received .*float16; expected .*float32"),
        ({"z_flux": [0.0] * 5}, r"'z_flux': received .*float64; expected .*float32"),
        ({"mask": np.zeros(4, np.uint8)}, r"'mask': received .*uint8; expected .*bool"),
        ({"cube": np.zeros((3, 2))}, r"'cube': received .*\(3, 2\).*expected shape \(2, 3\)"),
        ({"redshift": "1.5"}, r"'redshift': received .*; expected shape \(\), dtype float64"),
        ({"redshift": None}, r"'redshift': received .*object; expected shape \(\), dtype float64"),
        ({"redshift": np.array([1.5])}, r"'redshift': received .*\(1,\).*expected shape \(\)"),
        ({"known": 1}, r"'known': received .*; expected shape \(\), dtype bool"),
        ({"count": 1.0}, r"'count': received .*float64; expected shape \(\), dtype int32"),
        ({"count": 2**31}, r"'count': received int 2147483648.*outside -2147483648..2147483647"),
        ({"name": b"n"}, r"'name': received bytes b'n'; expected text"),
        ({"name": "\ud800"}, r"'name': .*UTF-8"),
        ({"extra": 1}, r"unknown field extra received; expected only: z_flux, cube"),
    ],
)
def test_a_wrong_value_is_refused_with_field_received_and_expected(changes, message):
    with pytest.raises(RecordFormatError, match=message):
        ExampleCodec(SMALL).serialise(example_from(SMALL, **changes))


def test_a_missing_field_is_named():
    example = example_from(SMALL)
    del example["mask"]
    with pytest.raises(RecordFormatError, match=r"missing field mask; expected shape \(4,\), dtype bool"):
        ExampleCodec(SMALL).serialise(example)


def test_a_record_of_another_schema_is_refused_at_parsing():
    data = ExampleCodec(SMALL).serialise(example_from(SMALL))
    longer = Schema((Field("z_flux", (6,), "float32"),))
    with pytest.raises(RecordFormatError, match=r"'z_flux': received 20 bytes; expected 24"):
        ExampleCodec(longer).parse(data)
    with pytest.raises(RecordFormatError, match="lacks field absent"):
        ExampleCodec(Schema((Field("absent", (), "str"),))).parse(data)
    with pytest.raises(RecordFormatError, match=r"unknown field .* received"):
        ExampleCodec(Schema((Field("name", (), "str"),))).check(data)


def test_only_selected_fields_are_parsed():
    codec = ExampleCodec(SMALL, fields=["name", "z_flux"])
    assert list(codec.parse(codec.serialise(example_from(SMALL)))) == ["z_flux", "name"]


def test_schema_round_trip_hash_and_errors():
    assert from_dict(Schema, to_dict(SCHEMA)) == SCHEMA
    assert from_dict(Schema, to_dict(SCHEMA)).hash == SCHEMA.hash
    other = Schema((*SMALL.fields[1:], Field("z_flux", (5,), "float32", "mJy")))
    assert len({SMALL.hash, other.hash, Schema(SMALL.fields, version=2).hash}) == 3
    data = to_dict(SMALL)
    data["fields"][0]["units"] = "Jy"
    with pytest.raises(ValueError, match=r"schema.fields\[0\]: unknown key units; known keys: name, shape"):
        from_dict(Schema, data, "schema")
    with pytest.raises(ValueError, match=r"schema: missing key fields"):
        from_dict(Schema, {"version": 1}, "schema")
    with pytest.raises(ValueError, match=r"unknown field fluxx; the records hold: z_flux"):
        SMALL.select(["fluxx"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", (), "str"), "needs a name"),
        (("x", (), "float16"), "unknown dtype 'float16'; expected one of float32"),
        (("x", (0,), "float32"), "expected lengths of 1 or more"),
        (("x", (3,), "str"), r"text has shape \(\)"),
    ],
)
def test_an_impossible_field_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Field(*arguments)


def test_field_names_differ():
    with pytest.raises(ValueError, match=re.escape("field name x given twice")):
        Schema((Field("x", (), "str"), Field("x", (2,), "bool")))
