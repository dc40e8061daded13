"""``kspecsr data download``: fetch JADES spectra and their catalogue."""

import argparse
import sys
from collections.abc import Sequence

from data_pipeline import command_line as cli
from data_pipeline.archives.fetch import MOST_JOBS, fetch_all
from data_pipeline.archives.http_client import HttpClient, InterruptedTransferError, Politeness
from data_pipeline.archives.listing import list_mast, list_tree
from data_pipeline.archives.release import DISPERSER_FOLDERS, FIELDS, RELEASES, RemoteFile, Selection

EXAMPLES = """\
examples:
  # ten galaxies of DR4 in all four dispersers, with the catalogue (90 MB): a first look
  kspecsr data download --release dr4 --output data/dr4 --limit 10

  # what would be fetched, and nothing more
  kspecsr data download --release dr4 --output data/dr4 --field goods-s --tier ultradeep --dry-run

  # all of DR3 from MAST; run it again after an interruption and it resumes where it stopped
  kspecsr data download --release dr3 --output data/dr3

The local tree mirrors the archive's: <field>/spectra/<filter-grating>/<tier>/<file>. Every file is verified
before it gets its final name. Please cite the JADES papers and DOI 10.17909/8tdj-8n28 when you use the data
(CC BY 4.0).
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--release", "data release", choices=sorted(RELEASES), required=True)
    cli.add(p, "--output", "root of the local copy", required=True)
    cli.add(p, "--field", "default: both", nargs="+", choices=FIELDS, default=FIELDS)
    cli.add(
        p,
        "--disperser",
        "default: all four",
        nargs="+",
        choices=DISPERSER_FOLDERS,
        default=tuple(DISPERSER_FOLDERS),
    )
    cli.add(
        p, "--tier", "e.g. deephst or goods-s-deephst; default: all", nargs="+", default=(), metavar="TIER"
    )
    cli.add(p, "--limit", "at most N targets, best covered first, each with all its dispersers", type=int)
    cli.add(
        p,
        "--base-url",
        "read the browsable tree at this address instead (a mirror, or DR3's own)",
        metavar="URL",
    )
    cli.add(p, "--dry-run", "list the files and write nothing", action="store_true")
    cli.add(p, "--jobs", "connections at the same time", type=int, default=2, choices=range(1, MOST_JOBS + 1))
    cli.add(p, "--delay", "seconds between two requests", type=float, default=Politeness.delay, metavar="S")
    cli.add(p, "--retries", "repetitions of a failed request", type=int, default=Politeness.retries)


def _print_listing(files: Sequence[RemoteFile]) -> None:
    for file in files:
        print(file.path if file.size is None else f"{file.path}  {file.size}")
    kinds = sorted({file.kind for file in files})
    print(", ".join(f"{sum(file.kind == kind for file in files)} {kind}" for kind in kinds), end="; ")
    known = [file.size for file in files if file.size is not None]
    print(f"{len(files)} files" + (f", {sum(known) / 1e6:.1f} MB" if len(known) == len(files) else ""))


@cli.command("kspecsr data download", EXAMPLES, _options, interrupted=cli.RESUMES)
def main(args: argparse.Namespace) -> int:
    """Fetch JADES NIRSpec x1d spectra and their redshift catalogue.

    DR3 comes from MAST, DR4 from the collaboration's server. Complete files are kept; rerun to resume.
    """
    selection = Selection(
        fields=tuple(args.field), dispersers=tuple(args.disperser), tiers=tuple(args.tier), limit=args.limit
    )
    client = HttpClient(Politeness(delay=args.delay, retries=args.retries))
    release = RELEASES[args.release]
    cli.LOG.info("Listing JADES %s ...", args.release.upper())
    try:
        if release.on_mast and args.base_url is None:
            files = list_mast(args.release, release, selection)
        else:
            files = list_tree(release, args.base_url or release.base_url, selection, client)
    except InterruptedTransferError:
        raise KeyboardInterrupt from None
    if args.dry_run:
        _print_listing(files)
        return 0
    report = fetch_all(files, args.output, client, args.jobs, args.quiet)
    print(report.table())
    print(f"{report.received / 1e6:.1f} MB received, into {args.output}")
    failed = sorted((file.path, reason) for file, reason in report.failed)
    status = cli.list_failures(
        [f"{path}: {reason}" for path, reason in failed], f"of {len(files)} files failed"
    )
    if status:
        cli.LOG.error("%s; complete files are kept", cli.RESUMES)
    if report.interrupted:
        raise KeyboardInterrupt
    return status


if __name__ == "__main__":
    sys.exit(main())
