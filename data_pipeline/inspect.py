"""``kspecsr data inspect``: pictures of spectra, pairs and records."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import command_line as cli
from data_pipeline.progress import Progress

if TYPE_CHECKING:
    from data_pipeline.pairs.matching import Dropped, Match
    from data_pipeline.pairs.preprocessing import PreprocessingConfig

_OTHER_PICTURES = (".pdf", ".svg", ".eps", ".ps", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".webp", ".bmp")

EXAMPLES = """examples:
  kspecsr data inspect spectrum.fits
  kspecsr data inspect spectrum.fits --redshift 3.235 --output spectrum.png
  kspecsr data inspect archive/*_x1d.fits --output pictures
  kspecsr data inspect --archive JADES_DR4 --picture pair
  kspecsr data inspect --archive pairs --catalogue z.csv --columns redshift=z --object jades-gdn-v4_39353
  kspecsr data inspect --records data/records --output pictures

which galaxy, where --object is not given:
  archive: most gratings, then most lines above 5 sigma in the catalogue's grating fluxes, then highest S/N;
    without such fluxes, the brightest line pixel in sigma, of the first 25 by gratings
  records: fewest of Halpha, [O III], Hbeta and [O II] in gaps, then the brightest line pixel in sigma,
    of the first 200 originals
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "files", "spectra of any known format, one picture each", nargs="*", metavar="FILE")
    cli.add(p, "--archive")
    cli.add(p, "--records", "record directory", default="", metavar="DIR")
    cli.add(
        p, "--output", "default: this folder, names after the object", default=".", metavar="DIR|FILE.png"
    )
    cli.add(p, "--object", "galaxy; default: see below", default="", metavar="ID")
    cli.add(
        p,
        "--picture",
        "picture to draw from an archive or records",
        choices=("pair", "stitching", "augmentation", "all"),
        default="all",
    )
    cli.add(p, "--redshift", "files: label lines at this redshift", type=float, metavar="Z")
    for name in ("--catalogue", "--columns", "--extraction", "--hdu", "--row"):
        cli.add(p, name)


def check(args: argparse.Namespace) -> None:
    """Refuses combinations that would leave an option without effect."""
    sources = [bool(args.files), bool(args.archive), bool(args.records)]
    if sum(sources) != 1:
        raise cli.OptionError("expected one of: FILE..., --archive DIR, --records DIR")
    if args.redshift is not None and (not args.files or not 0 <= args.redshift <= 30):
        raise cli.OptionError(f"--redshift goes with FILE and lies from 0 to 30, got {args.redshift:g}")
    if args.files and (args.object or args.picture != "all"):
        raise cli.OptionError("--object and --picture go with --archive or --records")
    if not args.files and (args.hdu, args.row) != (None, None):
        raise cli.OptionError("--hdu and --row go with FILE")
    if not args.archive and (args.catalogue or args.columns):
        raise cli.OptionError("--catalogue and --columns go with --archive")
    if args.records and args.extraction != "3pix":
        raise cli.OptionError("--extraction goes with FILE or --archive; records hold one extraction")
    if args.records and args.picture not in ("augmentation", "all"):
        raise cli.OptionError(
            f"--picture {args.picture} is drawn from --archive; records give --picture augmentation"
        )
    if args.archive and args.picture == "augmentation":
        raise cli.OptionError(
            "--picture augmentation is drawn from --records; an archive gives pair and stitching"
        )
    ending = Path(args.output).suffix.lower()
    if ending in _OTHER_PICTURES and not Path(args.output).is_dir():
        raise cli.OptionError(
            f"--output {args.output}: pictures are PNG files; give a name ending in .png, or a folder"
        )
    several = len(args.files) > 1 or (args.archive and args.picture == "all")
    if several and args.output.lower().endswith(".png"):
        raise cli.OptionError(
            f"--output {args.output} names one file, but several pictures are drawn; give a folder"
        )


def target(output: str, name: str) -> Path:
    """Path of a picture: the file that was named, or a name in a folder."""
    return Path(output) if output.lower().endswith(".png") else Path(output) / f"{name}.png"


def inspect_files(args: argparse.Namespace) -> list[str]:
    """One picture and one line of facts per file; returns what could not be read."""
    # a second of astropy and Matplotlib: not for --help
    from data_pipeline.pictures.spectra import draw_single_spectrum, facts
    from data_pipeline.pictures.style import save_picture
    from data_pipeline.readers import read_spectrum
    from data_pipeline.spectrum import SpectrumError

    broken: list[str] = []
    taken: dict[str, int] = {}
    for path in args.files:
        try:
            spectrum = read_spectrum(path, extraction=args.extraction, hdu=args.hdu, row=args.row)
        except SpectrumError as error:
            broken.append(str(error))
            continue
        stem = Path(path).name.removesuffix(".gz").removesuffix(".fits")
        taken[stem] = taken.get(stem, 0) + 1
        name = stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"
        saved = save_picture(draw_single_spectrum(spectrum, args.redshift), target(args.output, name))
        print(f"{facts(spectrum)}\n  -> {saved}", flush=True)
    return broken


def find_pair(args: argparse.Namespace, config: PreprocessingConfig) -> tuple[Match, list[Dropped]]:
    """The galaxy to draw, and files of the archive that cannot be read."""
    from data_pipeline.catalogue import parse_columns, read_catalogue
    from data_pipeline.pairs.matching import MatchConfig, find_catalogue, match, scan_archive
    from data_pipeline.pictures.choice import choose_match, find_match

    bar = partial(Progress, delay=2, disable=args.quiet)
    files, unreadable = scan_archive(args.archive, partial(bar, desc="scan", unit="file"))
    mapping = parse_columns(args.columns)
    catalogue = read_catalogue(args.catalogue or find_catalogue(args.archive), mapping)
    if args.object:
        # Whoever asks for a galaxy by name sees it, however sure its redshift is.
        matches, dropped = match(files, catalogue, MatchConfig(flags="ABCDE"))
        return find_match(matches, [*unreadable, *dropped], args.object), unreadable
    matches, _ = match(files, catalogue)
    return choose_match(matches, catalogue, config, partial(bar, desc="choose")), unreadable


def inspect_archive(args: argparse.Namespace) -> list[str]:
    """Draws one galaxy of an archive; returns what could not be read."""
    from data_pipeline.pairs.preprocessing import PreprocessingConfig, make_pair, read_match
    from data_pipeline.pictures.spectra import draw_galaxy_pair, facts
    from data_pipeline.pictures.stitching import draw_stitching
    from data_pipeline.pictures.style import save_picture

    config = PreprocessingConfig(extraction=args.extraction)
    found, unreadable = find_pair(args, config)
    prism, gratings = read_match(found, config)
    print(f"{found.unique_id}, z = {found.redshift:.4f}, flag {found.redshift_flag or 'not stated'}")
    for spectrum in (prism, *gratings):
        print(f"  {facts(spectrum)}")
    if args.picture in ("pair", "all"):
        figure = draw_galaxy_pair(prism, gratings, found.redshift, found.unique_id)
        print(f"  -> {save_picture(figure, target(args.output, f'pair_{found.unique_id}'))}")
    if args.picture in ("stitching", "all"):
        stitched = make_pair(prism, gratings, found.redshift, config).stitched
        figure = draw_stitching(gratings, stitched, found.redshift, found.unique_id)
        print(f"  -> {save_picture(figure, target(args.output, f'stitching_{found.unique_id}'))}")
    return [f"{d.unique_id}: {d.reason}" for d in unreadable]


def inspect_records(args: argparse.Namespace) -> list[str]:
    """Draws the augmentation family of one galaxy of records."""
    from data_pipeline.pictures.choice import choose_original, find_family
    from data_pipeline.pictures.spectra import draw_augmentation_family
    from data_pipeline.pictures.style import save_picture
    from data_pipeline.records import Manifest

    bar = partial(Progress, desc="search", unit="row", delay=2, leave=False, disable=args.quiet)
    unique_id = args.object or str(choose_original(args.records)["unique_id"])
    family = find_family(args.records, unique_id, lambda rows, total: bar(rows, total=total))
    manifest = Manifest.read(args.records)
    if family.stored:
        made = f"{len(family.copies)} realisations as stored ({family.split})"
    else:
        made = (
            f"{len(family.copies)} realisations made for this picture: the records ({family.split}) hold none"
        )
    title = f"{unique_id} · z = {family.original['redshift']:.4f} · {made}"
    print(title)
    figure = draw_augmentation_family(
        family.original, family.copies, manifest.prism.wavelength, manifest.grid.wavelength, title
    )
    print(f"  -> {save_picture(figure, target(args.output, f'augmentation_{unique_id}'))}")
    return []


@cli.command("kspecsr data inspect", EXAMPLES, _options, interrupted=cli.COMPLETE_SO_FAR)
def main(args: argparse.Namespace) -> int:
    """Draw spectra from files, an archive or records.

    Single files; prism and gratings of a galaxy (paper Figure 1) and how the gratings were stitched, from an
    archive; an augmentation family (paper Figure 2), from records.
    """
    check(args)
    draw = inspect_files if args.files else inspect_archive if args.archive else inspect_records
    return cli.list_failures(draw(args), "could not be read")


if __name__ == "__main__":
    sys.exit(main())
