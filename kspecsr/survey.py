"""Command line: ``python -m kspecsr.survey``: super-resolves surveys into Parquet tables."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

EXAMPLES = """examples:
  python -m kspecsr.survey archive/ --output survey
  python -m kspecsr.survey archive/ --output survey --workers 8 --spectra
  python -m kspecsr.survey catalogue.parquet --output survey --flux flux --error flux_error --flux-unit uJy
  python -m kspecsr.survey paths.csv --output survey --path file --id name --redshift z_spec
  python -m kspecsr.survey hats_catalogue/ --output survey --scheduler tcp://10.0.0.1:8786

INPUT is a folder of FITS files (searched with all below it), files, patterns in quotes or @LIST of them; a
Parquet file, a folder of them or a HATS catalogue, with flux, error and wavelength as list columns
("spectrum.flux" names a field of a nested column); or a table of paths (CSV, ECSV, Parquet).

In --output: objects/ (one row per spectrum), lines/ (one row per object and line), failures/ (what was not
read, and why), with --spectra also spectra/ (list columns), as Parquet; objects + failures = inputs. Where
positions are known, hats/ is the table of objects as a HATS catalogue. docs/surveys.md describes the columns.

A run that was stopped in any way goes on with the same command; the result is that of an undisturbed run. A
folder that belongs to other inputs, options, weights or versions is refused. Exit status: 0 all inputs are
in the tables, 1 some partition failed or nothing could be done, 2 wrong options, 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.survey",
        description="Super-resolve a survey of prism spectra into Parquet tables of objects and lines, on "
        "Dask workers here or on a cluster.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="spectra, catalogue or table of paths; see below"
    )
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the tables")
    p.add_argument(
        "--model", default="default", metavar="NAME|DIR", help="shipped model or model folder (%(default)s)"
    )
    p.add_argument("--spectra", action="store_true", help="keep spectra and P(z) too: some 50 kB each")
    p.add_argument("--extraction", choices=("3pix", "5pix"), default="3pix", help="default %(default)s")
    p.add_argument("--no-hats", action="store_true", help="do not write hats/")
    where = p.add_argument_group("where the work is done")
    where.add_argument("--workers", type=int, default=2, help="processes (default %(default)s)")
    where.add_argument(
        "--threads",
        type=int,
        default=0,
        help="of TensorFlow in each (default: cores / workers, or as many as a Dask worker has)",
    )
    where.add_argument(
        "--memory", type=float, default=4.0, metavar="GIB", help="limit of each process (default %(default)s)"
    )
    where.add_argument(
        "--scheduler", default="", metavar="ADDRESS", help="of a running Dask scheduler, instead"
    )
    where.add_argument("--dashboard", type=int, default=8787, metavar="PORT", help="default %(default)s")
    where.add_argument(
        "--partition-size", type=int, default=1024, metavar="N", help="inputs per task (default %(default)s)"
    )
    where.add_argument(
        "--in-flight", type=int, default=0, metavar="N", help="tasks handed out (default: two per worker)"
    )
    where.add_argument("--quiet", action="store_true", help="no progress bar")
    columns = p.add_argument_group("columns of a catalogue or table of paths", "default: usual names")
    for name, text in (
        ("flux", "list column"),
        ("error", "list column, one sigma"),
        ("ivar", "list column of inverse variances, instead of --error"),
        ("wavelength", "list column, in vacuum"),
        ("mask", "list column, nonzero = bad"),
        ("path", "of a table of paths"),
        ("id", "object id"),
        ("ra", "right ascension [deg]"),
        ("dec", "declination [deg]"),
        ("redshift", "known redshifts; none are used unless this is given"),
    ):
        columns.add_argument(f"--{name}", default="", metavar="COLUMN", help=text)
    columns.add_argument("--flux-unit", default="", metavar="UNIT", help="default: the schema's metadata")
    columns.add_argument("--wavelength-unit", default="", metavar="UNIT", help="likewise")
    return p


def survey(args: argparse.Namespace) -> int:
    """Does what the command line says; returns the exit status."""
    # a second of pyarrow and Dask: not for --help
    from kspecsr.surveys.engine import ClusterOptions, connected, run_partitions, tensorflow_threads
    from kspecsr.surveys.hats_catalogue import write_hats
    from kspecsr.surveys.inputs import prepare
    from kspecsr.surveys.output import locked

    cluster = ClusterOptions(
        args.workers, args.threads, int(args.memory * 2**30), args.dashboard, args.scheduler
    )
    started = time.monotonic()
    with locked(args.output):
        settings, model = prepare(args)
        print(f"{settings.total} inputs in {settings.partitions} partitions", flush=True)
        with connected(cluster) as client:
            print(f"dashboard: {client.dashboard_link}", flush=True)
            with tqdm(total=settings.total, desc="survey", unit="spectrum", disable=args.quiet) as bar:
                summary = run_partitions(
                    client,
                    args.output.resolve(),
                    settings,
                    model.resolve(),
                    tensorflow_threads(client, cluster),
                    bar.update,
                    args.in_flight,
                )
        print(_counts(summary, time.monotonic() - started), flush=True)
        if summary.complete and not args.no_hats:
            print(write_hats(args.output, settings), flush=True)
    if summary.failed:
        print(f"\n{len(summary.failed)} partitions failed:", *summary.failed, sep="\n  ", file=sys.stderr)
    if summary.ended:
        print(f"\nended early: {summary.ended}; the same command goes on from there", file=sys.stderr)
    return 0 if summary.complete else 1


def _counts(summary, seconds: float) -> str:
    objects = sum(one.objects for one in summary.reports)
    text = f"{objects} results in {seconds:.1f} s"
    if flagged := sum(one.flagged for one in summary.reports):
        text += f"; {flagged} of them flagged, without lines"
    if failures := sum(one.failures for one in summary.reports):
        text += f"; {failures} inputs in failures/"
    if summary.there:
        text += f"; {summary.there} inputs were done already"
    if peak := max((one.peak for one in summary.reports), default=0):
        text += f"; largest memory of a worker {peak / 2**30:.2f} GiB"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if a partition failed or nothing could be done, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    for name, least in (("workers", 1), ("threads", 0), ("partition_size", 1), ("in_flight", 0)):
        if getattr(args, name) < least:
            p.error(f"--{name.replace('_', '-')}: expected {least} or more, got {getattr(args, name)}")
    if not args.memory > 0:
        p.error(f"--memory: expected gibibytes above 0, got {args.memory:g}")
    try:
        return survey(args)
    except ModuleNotFoundError as error:
        print(f"error: {error}; surveys need the extra: pip install 'kspecsr[survey]'", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; finished partitions are complete, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
