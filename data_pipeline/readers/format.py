"""What a file format is to the reader: a name, a test that recognises it, and a function that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_pipeline.readers.source import Source
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

EXTRACTIONS = ("3pix", "5pix")


@dataclass(frozen=True)
class ReadOptions:
    """What the caller chose to read.

    Attributes:
        extraction: ``3pix`` or ``5pix``; only formats with two extractions have the choice.
        hdu: extension name or index instead of the format's own; None for the format's own.
        flux_column: column (GTO: image extension) that holds the flux; None for the format's own.
    """

    extraction: str = "3pix"
    hdu: str | int | None = None
    flux_column: str | None = None

    def __post_init__(self):
        if self.extraction not in EXTRACTIONS:
            raise SpectrumError(
                f"extraction={self.extraction!r} is unknown; expected one of {', '.join(EXTRACTIONS)}."
            )


@dataclass(frozen=True)
class Format:
    """One file layout.

    Attributes:
        name: as `SpectrumMeta.format` gives it, e.g. ``jades-dr4``.
        description: one line for people.
        identify: True if the opened file has this layout; looks at headers only.
        read: reads the opened file.
    """

    name: str
    description: str
    identify: Callable[[Source], bool]
    read: Callable[[Source, ReadOptions], ObservedSpectrum]
