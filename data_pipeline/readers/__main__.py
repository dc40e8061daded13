"""Reads spectra and prints what they hold: ``python -m data_pipeline.readers PATH...``."""

from __future__ import annotations

import argparse
import os
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
        description="Reads spectra of any known format and prints one line each, with notes on what the\n"
        "reader repaired or masked. A file that cannot be read is listed at the end with the reason; the\n"
        "exit status is then 1.",
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


def _files(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """The files named and those with a spectrum's suffix below the directories named; what holds none."""
    found: list[Path] = []
    failures: list[str] = []
    for path in paths:
        # os.path answers False where Path raises, for instance for a name that is too long
        if not os.path.isdir(path):
            found.append(path)
            continue
        below = sorted(p for p in path.rglob("*") if p.name.endswith(_SUFFIXES) and os.path.isfile(p))
        found += below
        if not below:
            failures.append(
                f"{path}: no file below this directory ends in {', '.join(_SUFFIXES)}. Name files of other "
                "endings one by one."
            )
    return found, failures


def _row(spectrum: ObservedSpectrum) -> str:
    meta = spectrum.meta
    return (
        f"{meta.target or meta.source_id:<22} {meta.disperser:<9} {meta.format:<10} {meta.extraction:<10} "
        f"{len(spectrum):>6d} {spectrum.mask.mean():>7.3f} {np.nanmedian(spectrum.signal_to_noise):>10.2f}  "
        f"{Path(meta.path).name}"
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns 1 if any file could not be read, 130 on Ctrl-C."""
    options = _parser().parse_args(argv)
    hdu = int(options.hdu) if options.hdu and options.hdu.isdigit() else options.hdu
    try:
        return _print_table(options, hdu)
    except KeyboardInterrupt:
        print("\ninterrupted; the rows above are complete", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the rows (head, less) has seen enough; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _print_table(options: argparse.Namespace, hdu: str | int | None) -> int:
    files, failures = _files(options.paths)
    unread = 0
    print(_HEAD)
    for path in files:  # the rows are the progress
        try:
            spectrum = read_spectrum(
                path, extraction=options.extraction, hdu=hdu, flux_column=options.flux_column
            )
        except SpectrumError as error:
            failures.append(str(error))
            unread += 1
            continue
        print(_row(spectrum), *(f"    note: {note}" for note in spectrum.meta.notes), sep="\n", flush=True)
    print(f"{len(files) - unread} of {len(files)} files read", flush=True)
    for text in failures:
        print(f"not read: {text}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
