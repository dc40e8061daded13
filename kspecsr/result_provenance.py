"""What the header of a result says: where it comes from, and its redshift."""

from __future__ import annotations

import hashlib
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.instrument import PRISM, load_instrument, reference_instrument
from data_pipeline.readers.own import NUMBER_KEYWORDS

if TYPE_CHECKING:
    from kspecsr.result import Result

FORMAT_KEYWORD, FORMAT_NAME = "SPECFMT", "kspecsr-sr"
MODEL_HASH, INPUT_HASH, Z_SOURCE, EXTRACTION = "MODELSHA", "INPUTSHA", "ZSOURCE", "EXTRACT"
INPUT_NAME, INPUT_PATH_HASH = "INPUT", "INPUTPSH"
GIVEN, INFERRED = "given", "spectrum"
_TEXT_KEYWORDS = {"target": "TARGET", "source_id": "SOURCEID", "field": "FIELD", "tier": "TIER"}
Card = tuple[str, str | float | bool | None, str]


def path_hash(path: str | os.PathLike) -> str:
    """Tells files of one name in two folders apart, without saying in a header that is shared where they lay.

    Returns:
        16 digits of the SHA-256 of the absolute path; empty for no path.
    """
    text = os.fspath(path)
    return hashlib.sha256(os.fsencode(os.path.abspath(text))).hexdigest()[:16] if text else ""


def provenance_cards(result: Result) -> list[Card]:
    """Keyword, value and comment of each card; unknown numbers have the value None."""
    return [
        (FORMAT_KEYWORD, FORMAT_NAME, "layout of this file"),
        # a reader that asks for the disperser learns that this is no observed prism spectrum
        ("DISPERSE", "SUPER-RESOLVED", "not observed: an estimate from the prism"),
        *_redshift_cards(result),
        ("CHI2NU", _number(result.chi_square), "degraded output against input, per 2/3 ERR^2"),
        ("FLAGS", ",".join(result.flags), "why no lines are reported; empty: they are"),
        *_source_cards(result),
        *_model_cards(result),
        ("DATE", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "UTC, when this was made"),
    ]


def _redshift_cards(result: Result) -> list[Card]:
    redshift = result.redshift
    low, median, high = redshift.quantile((0.16, 0.5, 0.84)) if redshift.modes else [math.nan] * 3
    return [
        ("Z", _number(redshift.value), "redshift at which lines are placed"),
        ("Z_ERR", _number(redshift.error), "one sigma; 0 where given"),
        ("Z_CONF", _number(redshift.confidence), "mass of Z's mode within 0.01 (1 + Z)"),
        (Z_SOURCE, GIVEN if redshift.given else INFERRED, "given by the caller, or from the spectrum"),
        ("Z_P16", _number(low), "quantiles of P(z)"),
        ("Z_P50", _number(median), ""),
        ("Z_P84", _number(high), ""),
    ]


def _source_cards(result: Result) -> list[Card]:
    meta = result.observed.meta
    cards: list[Card] = [
        (INPUT_NAME, Path(meta.path).name, "file that was read"),
        (INPUT_PATH_HASH, path_hash(meta.path), "of its path, SHA-256, 16 digits"),
        (INPUT_HASH, result.input_sha256, "SHA-256 of it"),
        ("INHDU", meta.hdu, "HDU that was read"),
        ("INFORMAT", meta.format, "its format"),
        ("INDISP", meta.disperser, "its disperser"),
        (EXTRACTION, meta.extraction, "its extraction"),
    ]
    cards += [(key, getattr(meta, name), "") for name, key in _TEXT_KEYWORDS.items() if getattr(meta, name)]
    numbers = {key: getattr(meta, name) for name, key in NUMBER_KEYWORDS.items()}
    cards += [(key, value, "") for key, value in numbers.items() if math.isfinite(value)]
    return cards


def _model_cards(result: Result) -> list[Card]:
    model, grid = result.model, result.model.grid
    prism, sharp = load_instrument(PRISM), reference_instrument(grid)
    return [
        ("MODEL", model.name, "name of the model"),
        (MODEL_HASH, model.sha256, "SHA-256 of its weights"),
        ("GRIDLO", grid.start, "[um] first pixel of the output, vacuum"),
        ("GRIDHI", grid.stop, "[um] upper end of the grid"),
        ("GRIDSAMP", grid.sampling, "lambda/dlambda of a pixel"),
        ("LSF", f"{sharp.name}, {sharp.illumination} illumination", "of the output"),
        ("LSFIN", f"{prism.name}, {prism.illumination} illumination", "of the input"),
        ("LSFINSCL", prism.scale, "factor on the tabulated resolving power"),
        *((f"VERSION {name.upper()}", number, "") for name, number in model.software.items()),
    ]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
