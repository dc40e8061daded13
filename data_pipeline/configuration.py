"""Frozen dataclasses to JSON and back, and the software versions that go with them.

Unknown keys are errors; nothing is dropped in silence.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import platform
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

T = TypeVar("T")
_SHOWN = 4  # differences that a message names
# Metadata of a field that files of before do not have: left out at its default, so that they stay the same.
NEWER = types.MappingProxyType({"newer": True})


class ConfigurationError(ValueError):
    """A configuration that does not fit its dataclass; the text names the key."""


def to_dict(config: Any) -> dict:
    """Nested plain dictionary of a (frozen) dataclass; tuples become lists. `NEWER` fields only if set."""
    return json.loads(json.dumps(_plain(config)))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {
            field.name: _plain(one)
            for field, one in fields.items()
            if not (field.metadata.get("newer") and one == field.default)
        }
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def from_dict(cls: type[T], data: dict, where: str = "") -> T:
    """Build ``cls`` from a nested dictionary; keys that are absent keep their defaults.

    Raises:
        ConfigurationError: for an unknown key or a value of the wrong type, naming its place.
    """
    where = where or cls.__name__
    data = check_keys(data, cls, where)
    hints = typing.get_type_hints(cls)
    return cls(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def check_keys(data: Any, cls: type, where: str) -> dict[str, Any]:
    """The mapping itself, once its keys are the fields of a dataclass.

    Keys without a default are needed; ``where`` says in the error text what is read.

    Raises:
        ConfigurationError: if ``data`` is no mapping, or has an unknown key or lacks one.
    """
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}
    if not isinstance(data, Mapping):
        raise ConfigurationError(
            f"{where}: expected an object with keys among {', '.join(known)}, got {data!r}"
        )
    if unknown := sorted(set(data) - set(known)):
        raise ConfigurationError(f"{where}: unknown key {', '.join(unknown)}; known keys: {', '.join(known)}")
    needed = [
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in needed if name not in data]:
        raise ConfigurationError(f"{where}: missing key {', '.join(missing)}")
    return dict(data)


def json_hash(data: Any) -> str:
    """SHA-256 of the canonical JSON text (sorted keys, no blanks), as hexadecimal digits."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Description of the first differences of two nested settings; empty if there are none."""
    first, second = dict(_flat(before)), dict(_flat(now))
    found = [
        f"{key} was {first.get(key, 'not set')}, now {second.get(key, 'not set')}"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"{where}: expected a list, got {value!r}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        if len(value) != len(arguments):
            raise ConfigurationError(f"{where}: expected {len(arguments)} values, got {value!r}")
        items = enumerate(zip(arguments, value, strict=True))
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in items)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where}: expected an object, got {value!r}")
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (
        not isinstance(value, hint) or (hint is not bool and isinstance(value, bool))
    ):
        raise ConfigurationError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def software_versions(*further: str) -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in ("kspecsr", "numpy", "scipy", "astropy", "specutils", *further):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raises a ValueError that names what is not within ``low`` and ``high``."""
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low:g} to {high:g}, got {value}")


def check_numbers(config: Any, positive: Collection[str], others: Collection[str] = ()) -> None:
    """Refuses NaN, infinities and what is no number; fractions beyond 0 to 1; zero where it has no meaning.

    Args:
        config: a dataclass.
        positive: its fields that are above zero; those that end in ``_fraction`` lie within 0 and 1.
        others: its fields that are no numbers.

    Raises:
        ValueError: naming the field.
    """
    for name, value in dataclasses.asdict(config).items():
        for number in value if isinstance(value, tuple | list) else [value]:
            is_number = isinstance(number, int | float) and math.isfinite(number)
            if name not in others and not is_number:
                raise ValueError(f"{name}: expected a finite number, got {number!r}")
        if name.endswith("_fraction"):
            check_between(name, value, 0.0, 1.0)
        if name in positive and not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")
