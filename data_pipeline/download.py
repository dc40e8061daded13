"""Command line: fetch JADES spectra and their catalogue, with ``python -m data_pipeline.download``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.archives.fetch import MOST_JOBS, LocalStorageError, Report, fetch_all
from data_pipeline.archives.http_client import HttpClient, InterruptedTransferError, Politeness, TransferError
from data_pipeline.archives.listing import list_mast, list_tree
from data_pipeline.archives.release import DISPERSER_FOLDERS, FIELDS, RELEASES, RemoteFile, Selection

_EXAMPLES = """\
examples:
  # ten galaxies of DR4 in all four dispersers, with the catalogue (90 MB): a first look
  python -m data_pipeline.download --release dr4 --output data/dr4 --limit 10

  # what would be fetched, and nothing more
  python -m data_pipeline.download --release dr4 --output data/dr4 --field goods-s --tier ultradeep --dry-run

  # all of DR3 from MAST; run it again after an interruption and it goes on where it stopped
  python -m data_pipeline.download --release dr3 --output data/dr3

The local tree mirrors the archive's: <field>/spectra/<filter-grating>/<tier>/<file>. Every file is verified
before it gets its final name. Please cite the JADES papers and DOI 10.17909/8tdj-8n28 when you use the data
(CC BY 4.0).
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m data_pipeline.download",
        description="Fetch JADES NIRSpec x1d spectra and their redshift catalogue: DR3 from MAST, DR4 from "
        "the collaboration's server. Resumable; complete files are kept.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--release", choices=sorted(RELEASES), required=True, help="data release")
    options.add_argument("--output", type=Path, required=True, metavar="DIR", help="root of the local copy")
    options.add_argument("--field", nargs="+", choices=FIELDS, default=FIELDS, help="default: both")
    options.add_argument(
        "--disperser",
        nargs="+",
        choices=DISPERSER_FOLDERS,
        default=tuple(DISPERSER_FOLDERS),
        help="default: all four",
    )
    options.add_argument(
        "--tier", nargs="+", default=(), metavar="TIER", help="e.g. deephst or goods-s-deephst; default: all"
    )
    options.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="at most N targets, best covered first, each with all its dispersers",
    )
    options.add_argument(
        "--base-url",
        metavar="URL",
        help="read the browsable tree at this address instead (a mirror, or DR3's own)",
    )
    options.add_argument("--dry-run", action="store_true", help="list the files and write nothing")
    options.add_argument(
        "--jobs",
        type=int,
        default=2,
        choices=range(1, MOST_JOBS + 1),
        help="connections at the same time (default: 2)",
    )
    options.add_argument(
        "--delay",
        type=float,
        default=Politeness.delay,
        metavar="S",
        help=f"seconds between two requests (default: {Politeness.delay})",
    )
    options.add_argument(
        "--retries",
        type=int,
        default=Politeness.retries,
        metavar="N",
        help=f"how often a failed request is repeated (default: {Politeness.retries})",
    )
    return options


def list_files(
    release_name: str, selection: Selection, client: HttpClient, base_url: str | None = None
) -> list[RemoteFile]:
    """The wanted files of a release, catalogues first.

    Args:
        release_name: key of `RELEASES`.
        selection: what is wanted.
        client: paces and retries.
        base_url: browsable tree to read instead of the release's usual source.

    Raises:
        TransferError: if the archive cannot be listed, or has nothing of what is wanted.
        ValueError: if ``base_url`` is no http(s) URL.
    """
    release = RELEASES[release_name]
    if release.on_mast and base_url is None:
        return list_mast(release_name, release, selection)
    return list_tree(release, base_url or release.base_url, selection, client)


def _print_listing(files: Sequence[RemoteFile]) -> None:
    for file in files:
        print(file.path if file.size is None else f"{file.path}  {file.size}")
    kinds = sorted({file.kind for file in files})
    print(", ".join(f"{sum(file.kind == kind for file in files)} {kind}" for kind in kinds), end="; ")
    known = [file.size for file in files if file.size is not None]
    print(f"{len(files)} files" + (f", {sum(known) / 1e6:.1f} MB" if len(known) == len(files) else ""))


def _finish(report: Report, count: int, output: Path) -> int:
    """Print what became of the files; the exit status."""
    print(report.table())
    print(f"{report.received / 1e6:.1f} MB received, into {output}")
    if report.failed:
        print(f"\n{len(report.failed)} of {count} files failed:", file=sys.stderr)
        for file, reason in sorted(report.failed, key=lambda failure: failure[0].path):
            print(f"  {file.path}: {reason}", file=sys.stderr)
        print("Run the same command again to try these once more; what is complete is kept.", file=sys.stderr)
    if report.interrupted:
        print("Interrupted. Run the same command again: it goes on where it stopped.", file=sys.stderr)
        return 130
    return 1 if report.failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status (0, 1 if anything failed, 130 after Ctrl-C)."""
    arguments = parser().parse_args(argv)
    try:
        selection = Selection(
            fields=tuple(arguments.field),
            dispersers=tuple(arguments.disperser),
            tiers=tuple(arguments.tier),
            limit=arguments.limit,
        )
        client = HttpClient(Politeness(delay=arguments.delay, retries=arguments.retries))
        print(f"Listing JADES {arguments.release.upper()} ...", file=sys.stderr)
        files = list_files(arguments.release, selection, client, arguments.base_url)
        if arguments.dry_run:
            _print_listing(files)
            return 0
        return _finish(
            fetch_all(files, arguments.output, client, arguments.jobs), len(files), arguments.output
        )
    except (TransferError, LocalStorageError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, InterruptedTransferError):
        print("Interrupted. Run the same command again: it goes on where it stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
