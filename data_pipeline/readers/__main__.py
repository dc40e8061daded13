"""``kspecsr data readers``: read spectra and print a line on each."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from data_pipeline import command_line as cli
from data_pipeline.readers.recognise import FORMATS, read_spectrum
from data_pipeline.readers.source import ENDINGS
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

_HEAD = (
    f"{'id':<22} {'disperser':<9} {'format':<10} {'extraction':<10} {'pixels':>6} {'masked':>7} "
    f"{'median S/N':>10}  file"
)

_FORMATS = "\n".join(f"  {known.name:<10} {known.description}" for known in FORMATS)
EXAMPLES = f"""formats:
{_FORMATS}

examples:
  kspecsr data readers spectrum.fits
  kspecsr data readers archive/ --extraction 5pix
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "paths", "file, or directory to search for spectra", nargs="+", type=Path, metavar="PATH")
    cli.add(p, "--extraction")
    cli.add(p, "--hdu")
    cli.add(p, "--row")
    cli.add(p, "--flux-column", "flux column to read")


def _files(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """The files named and those with a spectrum's suffix below the directories named; what holds none."""
    found: list[Path] = []
    failures: list[str] = []
    for path in paths:
        # os.path answers False where Path raises, for instance for a name that is too long
        if not os.path.isdir(path):
            found.append(path)
            continue
        below = sorted(p for p in path.rglob("*") if p.name.lower().endswith(ENDINGS) and os.path.isfile(p))
        found += below
        if not below:
            failures.append(
                f"{path}: no file below this directory ends in {', '.join(ENDINGS)}. Name files of other "
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


@cli.command("kspecsr data readers", EXAMPLES, _options, interrupted=cli.COMPLETE_SO_FAR)
def main(args: argparse.Namespace) -> int:
    """Read spectra of any known format and print a line on each.

    The notes of the reader say what it repaired or masked.
    """
    files, failures = _files(args.paths)
    unread = 0
    print(_HEAD)
    for path in files:  # the rows are the progress
        try:
            spectrum = read_spectrum(
                path,
                extraction=args.extraction,
                hdu=args.hdu,
                flux_column=args.flux_column,
                row=args.row,
            )
        except SpectrumError as error:
            failures.append(str(error))
            unread += 1
            continue
        cli.say("\n".join([_row(spectrum), *(f"    note: {note}" for note in spectrum.meta.notes)]))
    cli.say(f"{len(files) - unread} of {len(files)} files read")
    return cli.list_failures(failures, "not read")


if __name__ == "__main__":
    sys.exit(main())
