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
# Names made of such words say the same: ``flux_good_pixel``, ``is_outlier``, ``use-pix``.
_BAD_WORDS = {
    *("mask", "masked", "bad", "flag", "flags", "flagged", "dq", "outlier", "outliers", "cr", "cosmic"),
    *("cosmics", "saturated", "artifact", "artefact", "hot", "nan", "badpix", "bpm", "crmask", "pixmask"),
    *("exclude", "excluded", "reject", "rejected", "contaminated"),
}
_GOOD_WORDS = {"good", "valid", "ok", "use", "used", "usable", "keep", "kept", "include", "included", "gpm"}
_NEUTRAL_WORDS = {"is", "flux", "pix", "pixel", "pixels", "spec", "spectrum", "data", "hdu", "column"}
_TURNED = _BAD_WORDS - {"mask", "flag", "flags", "dq", "bpm", "pixmask"}  # ``bad`` and ``good`` in one name
_AMBIGUOUS = ("quality", "qual")  # as true and false, or as a fraction: which way round?
_MAY_BE = re.compile(
    r"mask|flag|qual|(^|[_.])(dq|bpm|gpm|cr|ok|sat|qc|qf|wht|weights?)([_.]|$)|bad|good|valid|cosmic|reject|"
    "outlier|saturat|artefact|artifact|exclud|contamin"
)
_FEW_VALUES = 8  # of a column of whole numbers, 0 among them, that may be flags
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


def marks(name: str) -> str:
    """``bad`` or ``good``: what a column of this name marks; empty where that is not known."""
    name = name.lower().strip()
    words = set(re.findall(r"[a-z]+", name))
    good = bool(words & _GOOD_WORDS)
    told = words & (_GOOD_WORDS | _BAD_WORDS) and words <= _GOOD_WORDS | _BAD_WORDS | _NEUTRAL_WORDS
    if name in GOOD_NAMES or (told and good and not words & _TURNED):
        return "good"
    return "bad" if name in BAD_NAMES or (told and not good) else ""


def _few_numbers(stored: np.ndarray) -> bool:
    """Whether these are zero and a few other whole numbers, as flags are."""
    values, null = split_mask(stored)
    if np.asarray(values).dtype.kind not in "biuf":
        return False
    found = np.unique(np.asarray(values, np.float64)[~null & np.isfinite(values)])
    return 1 < found.size <= _FEW_VALUES and 0 in found and bool(np.all(found == np.round(found)))


def bad_pixels(
    names: Sequence[str],
    values: Callable[[str], np.ndarray],
    where: str,
    known: Sequence[str] = (),
    of_any_name: bool = False,
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Pixels that a table marks as bad, in all columns that say so; pixels without a flag are bad.

    Args:
        names: columns of the table.
        values: flags (n,) of a column, as `truth` takes them.
        where: file and HDU, for error texts.
        known: columns that the reader of the format itself understands.
        of_any_name: columns that hold zero and a few other whole numbers are named in a note whatever they
            are called.

    Returns:
        (n,) bool, True = bad, None where no column says anything; and a note on each column that was read,
        or that may be one and was not understood.

    Raises:
        SpectrumError: for a column ``mask`` that holds words other than True and False.
    """
    mask, notes = None, []
    passed_over = {other.lower() for other in known}
    for name in names:
        lower = name.lower().strip()
        if lower in passed_over or lower.endswith((".mask", ".unit")):
            continue
        title, kind = name if lower.startswith("hdu ") else f"column {name}", marks(name)
        try:
            stored = values(name) if kind or of_any_name else None
            if not kind:
                if may_mark(lower) or (of_any_name and _few_numbers(stored)):
                    notes.append(f"{title} was not read: it may mark bad pixels, but in a way not known here")
                continue
            flags = truth(stored)
            if lower in _AMBIGUOUS and not _counts(stored):
                raise ValueError("whether true is good or bad is not known")
        except (SpectrumError, ValueError) as error:
            if lower == "mask":
                raise SpectrumError(
                    f"{where}: column {name} should mark bad pixels with numbers or True and False ({error})."
                ) from error
            if kind or may_mark(lower):
                notes.append(f"{title} was not read: {error}")
            continue
        bad = ~(flags == (kind == "good"))  # no value is neither
        mask = bad if mask is None else mask | bad
        if bad.any():
            meaning = "0" if kind == "good" else "not 0"
            note = f"{bad.sum()} pixels masked: {title} is {meaning} or blank"
            if bad.sum() > 0.5 * bad.size:
                other = "good" if kind == "bad" else "mask"
                note += f" (most of them: if it means the opposite, call it {other})"
            notes.append(note)
    return mask, tuple(notes)


def _counts(stored: np.ndarray) -> bool:
    """Whether these are whole numbers, as flags are, rather than fractions or truth values."""
    values = np.asarray(split_mask(stored)[0])
    if values.dtype.kind not in "iuf":
        return False
    values = values[np.isfinite(values)]
    return bool(np.all(values == np.round(values)))
