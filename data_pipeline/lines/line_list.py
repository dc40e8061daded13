"""The rest-frame line list: vacuum wavelengths, fixed doublet ratios, Case B."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from data_pipeline.tables import read_table


@dataclass(frozen=True)
class LineList:
    """Emission lines; those of a longer list follow those of the shorter, each part in order of wavelength.

    Attributes:
        names: n names, e.g. ``[OIII]_5008``.
        wavelength: (n,) rest wavelength [um, vacuum].
        partner: n names of the weaker line to which the flux is tied; empty where free.
        ratio: (n,) flux over the partner's flux; NaN where free.
        case_b: (n,) flux over Hbeta at T = 1e4 K, n = 1e2 cm-3; NaN for anything but hydrogen.
    """

    names: tuple[str, ...]
    wavelength: np.ndarray
    partner: tuple[str, ...]
    ratio: np.ndarray
    case_b: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a line.

        Raises:
            KeyError: for an unknown name, listing the known ones.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"unknown line {name!r}; known lines: {', '.join(self.names)}") from None


LISTS = {"first": 1, "second": 2}


def list_of(count: int) -> LineList:
    """The shipped list that has so many lines: arrays of lines carry it by their length.

    Raises:
        ValueError: if none has.
    """
    lists = {len(load_lines(name)): load_lines(name) for name in LISTS}
    if count not in lists:
        raise ValueError(f"no list has {count} lines; the shipped ones have {', '.join(map(str, lists))}")
    return lists[count]


def list_naming(names: Iterable[str]) -> str:
    """Name of the shortest list that has the most of some lines: tables carry theirs by the lines' names."""
    wanted = set(names)
    return max(LISTS, key=lambda name: len(wanted.intersection(load_lines(name).names)))


@cache
def load_lines(name: str = "first") -> LineList:
    """A shipped list, 0.12-4.1 um rest (PyNeb and NIST wavelengths, vacuum).

    Models count the lines of the list that they were trained with, and populations draw in its order: a list
    never changes. ``first`` is that of the shipped model and of everything that names none; ``second`` has
    after them the lines that it lacks, N IV] and N III] among them, so that the places of the first hold in
    arrays of both.

    Raises:
        KeyError: for an unknown list.
    """
    table = read_table("lines_vacuum.ecsv")
    if name not in LISTS:
        raise KeyError(f"unknown list of lines {name!r}; known: {', '.join(LISTS)}")
    order = np.lexsort((table["wavelength_A"], table["list"]))
    order = order[table["list"][order] <= LISTS[name]]
    return LineList(
        names=tuple(str(name) for name in table["name"][order]),
        wavelength=table["wavelength_A"][order] * 1e-4,
        partner=tuple("" if name == "-" else str(name) for name in table["partner"][order]),
        ratio=table["ratio_to_partner"][order],
        case_b=table["case_b_to_hbeta"][order],
    )
