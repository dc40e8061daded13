"""Unit strings as archives write them, to astropy units."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

import astropy.units as u

# Spellings that astropy refuses or, for a lone "A" (ampere), reads as something that no spectrum holds.
_SPELLINGS = {
    "A": "Angstrom",
    "AA": "Angstrom",
    "Ang": "Angstrom",
    "ang": "Angstrom",
    "Angstroms": "Angstrom",
    "angstroms": "Angstrom",
    "angstrom": "Angstrom",
    "microns": "um",
    "Microns": "um",
    "Micron": "um",
    "micrometer": "um",
    "micrometers": "um",
    "meters": "m",
    "microJansky": "uJy",
}
_WORD = re.compile(r"[A-Za-z]+")


@lru_cache(maxsize=512)
def parse_unit(text: str) -> u.UnitBase:
    """The unit that `text` means; non-standard spellings such as ``AA-1`` are understood.

    Raises:
        ValueError: for text that is no unit, or several, or a logarithmic one.
    """
    standard = _WORD.sub(lambda word: _SPELLINGS.get(word[0], word[0]), text.strip())
    with warnings.catch_warnings():
        # several slashes and deprecated spellings are unambiguous in these files
        warnings.simplefilter("ignore", u.UnitsWarning)
        unit = u.Unit(standard)
    if not isinstance(unit, u.UnitBase):  # "um, Jy" or "mag(AB)": no linear unit of one column
        raise ValueError(f"{text!r} is no single linear unit")
    return unit
