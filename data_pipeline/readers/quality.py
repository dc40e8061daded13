"""Columns that say which pixels are bad, under their usual names."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from data_pipeline.spectrum import SpectrumError, split_mask

# Pixels are bad where these are not 0, or true.
BAD_NAMES = (
    *("mask", "bad", "flag_bad", "dq", "quality", "qual", "flags", "flag", "and_mask", "data_quality"),
    *(
        "dqflags",
        "dq_flags",
        "dq_flag",
        "quality_flag",
        "quality_flags",
        "qual_flag",
        "flag_quality",
        "bitmask",
    ),
    *("bad_pixel", "bad_pixels", "badpix", "bpm", "bad_mask", "mask_bad", "is_bad", "masked", "flux_mask"),
    *(
        "flux_flag",
        "flux_flags",
        "pixel_mask",
        "pixmask",
        "maskbits",
        "outlier",
        "crmask",
        "cr_mask",
        "cosmic",
    ),
)
# Pixels are good where these are not 0, or true.
GOOD_NAMES = (
    *("good", "valid", "ok", "use", "usable", "is_good", "is_valid", "isvalid", "good_pixel", "good_pixels"),
    *("goodpix", "good_mask", "mask_good", "valid_mask", "valid_pixel", "gpm"),
)
_AMBIGUOUS = ("quality", "qual")  # as true and false, or as a fraction: which way round?
_MAY_BE = re.compile(
    r"mask|flag|qual|(^|[_.])(dq|bpm|gpm|cr|ok|sat)([_.]|$)|bad|good|valid|cosmic|reject|outlier"
)
_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "bad", "masked"), True),
    **dict.fromkeys(("false", "f", "no", "n", "", "ok", "good"), False),
}


def truth(values) -> np.ndarray:
    """Flags (n,) as 1 for true and not zero, 0, and NaN where there is no value.

    Args:
        values: numbers, booleans, or words such as True and False; masked or not.

    Raises:
        ValueError: for other words.
    """
    values, unknown = split_mask(values)
    values = np.asarray(values)
    if values.dtype.kind in "SUO":
        words = [item.decode("ascii", "replace") if isinstance(item, bytes) else str(item) for item in values]
        known = [_word(word.strip().lower()) for word in words]
        values = np.array(known, dtype=np.float64)
    values = values.astype(np.float64)
    return np.where(unknown | np.isnan(values), np.nan, values != 0)


def _word(text: str) -> float:
    if text in ("none", "null", "nan", "--"):
        return np.nan
    return float(_WORDS[text]) if text in _WORDS else float(text)


def may_mark(name: str) -> bool:
    """Whether a column of this name may mark bad pixels."""
    return bool(_MAY_BE.search(name.lower()))


def bad_pixels(
    names: Sequence[str], values: Callable[[str], np.ndarray], where: str, known: Sequence[str] = ()
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Pixels that a table marks as bad, in all columns that say so; pixels without a flag are bad.

    Args:
        names: columns of the table.
        values: flags (n,) of a column, as `truth` takes them.
        where: file and HDU, for error texts.
        known: columns that the reader of the format itself understands.

    Returns:
        (n,) bool, True = bad, None where no column says anything; and a note on each column that was read,
        or that may be one and was not understood.

    Raises:
        SpectrumError: for a column ``mask`` that holds words other than True and False.
    """
    mask, notes = None, []
    for name in names:
        lower = name.lower().strip()
        if lower in [other.lower() for other in known] or lower.endswith((".mask", ".unit")):
            continue
        if lower not in BAD_NAMES + GOOD_NAMES:
            if may_mark(lower):
                notes.append(
                    f"column {name} was not read: it may mark bad pixels, but in a way not known here"
                )
            continue
        try:
            stored = values(name)
            flags = truth(stored)
            if lower in _AMBIGUOUS and not _counts(stored):
                raise ValueError("whether true is good or bad is not known")
        except (SpectrumError, ValueError) as error:
            if lower == "mask":
                raise SpectrumError(
                    f"{where}: column {name} should mark bad pixels with numbers or True and False ({error})."
                ) from error
            notes.append(f"column {name} was not read: {error}")
            continue
        bad = ~(flags == (lower in GOOD_NAMES))  # no value is neither
        mask = bad if mask is None else mask | bad
        if bad.any():
            meaning = "0" if lower in GOOD_NAMES else "not 0"
            notes.append(f"{bad.sum()} pixels masked: column {name} is {meaning} or blank")
    return mask, tuple(notes)


def _counts(stored: np.ndarray) -> bool:
    """Whether these are whole numbers, as flags are, rather than fractions or truth values."""
    values = np.asarray(split_mask(stored)[0])
    if values.dtype.kind not in "iuf":
        return False
    values = values[np.isfinite(values)]
    return bool(np.all(values == np.round(values)))
