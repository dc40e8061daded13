"""Reads spectra and prints what they hold: ``python -m data_pipeline.readers PATH...``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from data_pipeline.readers.format import EXTRACTIONS
from data_pipeline.readers.recognise import FORMATS, read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

_SUFFIXES = (".fits", ".fits.gz", ".fit", ".ecsv")
_HEAD = (
    f"{'id':<22} {'disperser':<9} {'format':<10} {'extraction':<10} {'pixels':>6} {'masked':>7} "
    f"{'median S/N':>10}  file"
)


def _parser() -> argparse.ArgumentParser:
    formats = "\n".join(f"  {known.name:<10} {known.description}" for known in FORMATS)
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.readers",
        description="Reads spectra of any known format and prints one line each. A file that cannot be read\n"
        "is listed at the end with the reason; the exit status is then 1.",
        epilog=f"formats:\n{formats}\n\nexamples:\n"
        "  python -m data_pipeline.readers spectrum.fits\n"
        "  python -m data_pipeline.readers archive/ --extraction 5pix\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="file, or directory to search for spectra"
    )
    parser.add_argument(
        "--extraction", choices=EXTRACTIONS, default="3pix", help="where a file holds both (default: 3pix)"
    )
    parser.add_argument("--hdu", help="extension to read, by name or number")
    parser.add_argument("--flux-column", help="flux column to read")
    return parser


def _files(paths: list[Path]) -> list[Path]:
    """The files named, and those with a spectrum's suffix below the directories named."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.name.endswith(_SUFFIXES) and p.is_file())
            found += below or [path]  # an empty directory is reported like any other bad input
        else:
            found.append(path)
    return found


def _row(spectrum: ObservedSpectrum) -> str:
    meta = spectrum.meta
    return (
        f"{meta.target or meta.source_id:<22} {meta.disperser:<9} {meta.format:<10} {meta.extraction:<10} "
        f"{len(spectrum):>6d} {spectrum.mask.mean():>7.3f} {np.nanmedian(spectrum.signal_to_noise):>10.2f}  "
        f"{Path(meta.path).name}"
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns 1 if any file could not be read."""
    options = _parser().parse_args(argv)
    hdu = int(options.hdu) if options.hdu and options.hdu.isdigit() else options.hdu
    files = _files(options.paths)
    failures: list[str] = []
    print(_HEAD)
    for path in files:  # the rows are the progress
        try:
            spectrum = read_spectrum(
                path, extraction=options.extraction, hdu=hdu, flux_column=options.flux_column
            )
            print(_row(spectrum), flush=True)
        except SpectrumError as error:
            failures.append(str(error))
    print(f"{len(files) - len(failures)} of {len(files)} files read")
    for text in failures:
        print(f"not read: {text}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
