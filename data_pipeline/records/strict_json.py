"""Dataclasses from JSON: unknown and missing keys are errors, nothing is dropped in silence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any


def check_keys(data: Any, config: type, where: str) -> dict[str, Any]:
    """The mapping itself, once its keys are the fields of a dataclass.

    Args:
        data: parsed JSON.
        config: dataclass whose field names are the allowed keys; those without a default are needed.
        where: what is read, for the error text.

    Raises:
        ValueError: if ``data`` is no mapping, or has an unknown key or lacks one.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a mapping of keys to values, got {type(data).__name__}")
    fields = {field.name: field for field in dataclasses.fields(config)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(unknown)}; known keys: {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in data
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: missing key {', '.join(missing)}")
    return dict(data)


def json_hash(data: Any) -> str:
    """SHA-256 of the canonical JSON text (sorted keys, no blanks), as hexadecimal digits."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
