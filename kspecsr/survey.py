"""``kspecsr survey``: super-resolve surveys into Parquet tables."""

import argparse
import sys
import time

from data_pipeline import command_line as cli
from data_pipeline.progress import Progress
from kspecsr.enhancement.options import GRATINGS

EXAMPLES = """examples:
  kspecsr survey archive/ --output survey
  kspecsr survey archive/ --output survey --workers 8 --spectra
  kspecsr survey archive/ --output trial --limit 100    # --dry-run: only say what would be done
  kspecsr survey catalogue.parquet --output survey --flux flux --flux-unit uJy --wavelength-unit um
  kspecsr survey paths.csv --output survey --path file --id name --redshift z_spec
  kspecsr survey hats_catalogue/ --output survey --scheduler tcp://10.0.0.1:8786
  kspecsr survey archive/ --with archive/ --output survey

INPUT is a folder of FITS files (searched with all below it), files, patterns in quotes or @LIST of them; a
Parquet file, a folder of them or a HATS catalogue, with flux, error and wavelength as list columns
("spectrum.flux" names a field of a nested column); or a table of paths (CSV, ECSV, Parquet).

In --output: objects/ (one row per spectrum), lines/ (one row per object and line), ratios/ (of models that
state how errors of lines are correlated), failures/ (what was not read, and why), with --spectra also
spectra/ (list columns), as Parquet; objects + failures = inputs. Where positions are known, hats/ is the
table of objects as a HATS catalogue. docs/surveys.md describes the columns.

--with joins medium gratings (G140M, G235M, G395M) with the prism files that they belong to, as in kspecsr
enhance --with; objects/ then has the flux scale and the zero point of each, and the redshift of the prism
alone. It needs a model with joint line errors.

Rerun the same command to resume a run that was stopped in any way; the result is that of an undisturbed run.
A folder that belongs to other inputs, options, weights or versions is refused. Exit status: 0 if all inputs
are in the tables, 1 if some partition failed or nothing could be done.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "inputs", "spectra, catalogue or table of paths; see below", nargs="+", metavar="INPUT")
    cli.add(p, "--output", "folder of the tables", required=True)
    cli.add(p, "--model")
    cli.add(p, "--with", GRATINGS, action="append", dest="gratings", default=[], metavar="FILE")
    cli.add(p, "--spectra", "keep spectra and P(z) too: some 50 kB each", action="store_true")
    for name in ("--keep-flagged", "--extraction", "--hdu", "--row", "--zero-point", "--precision"):
        cli.add(p, name)
    cli.add(p, "--limit", "only the first N inputs", type=cli.at_least(1))
    cli.add(p, "--dry-run", "say what would be done; write nothing", action="store_true")
    cli.add(p, "--no-hats", "do not write hats/", action="store_true")
    where = p.add_argument_group("where the work is done")
    cli.add(where, "--workers", default=2, type=cli.at_least(1))
    cli.add(
        where,
        "--threads",
        "threads of TensorFlow in each (default: cores / workers, or as many as a Dask worker has)",
        type=cli.at_least(0),
        default=0,
    )
    cli.add(
        where, "--memory", "memory limit of each process", type=cli.above_zero, default=4.0, metavar="GIB"
    )
    cli.add(where, "--scheduler", "use a running Dask scheduler instead", default="", metavar="ADDRESS")
    cli.add(where, "--dashboard", "port of the dashboard", type=int, default=8787, metavar="PORT")
    cli.add(where, "--partition-size", "inputs per task", type=cli.at_least(1), default=1024)
    cli.add(
        where,
        "--in-flight",
        "tasks handed out at a time (default: two per worker)",
        type=cli.at_least(0),
        default=0,
    )
    columns = p.add_argument_group("columns of a catalogue or table of paths", "default: usual names")
    for name, text in (
        ("flux", "list column"),
        ("error", "list column, one sigma"),
        ("ivar", "list column of inverse variances, instead of --error"),
        ("wavelength", "list column, in vacuum"),
        ("mask", "list column, nonzero = bad; of a name such as valid, zero = bad"),
        ("path", "path of a spectrum, in a table of paths"),
        ("id", "object id"),
        ("ra", "right ascension [deg]"),
        ("dec", "declination [deg]"),
        ("redshift", "known redshifts; none are used unless this is given"),
        ("disperser", "what each row was taken with; others than the prism are left out"),
    ):
        cli.add(columns, f"--{name}", text, default="", metavar="COLUMN")
    for name in ("flux", "wavelength"):
        cli.add(columns, f"--{name}-unit", "default: the metadata of the column", default="", metavar="UNIT")


@cli.command("kspecsr survey", EXAMPLES, _options, interrupted=cli.RESUMES, extra="survey")
def main(args: argparse.Namespace) -> int:
    """Super-resolve a survey of prism spectra into Parquet tables of objects and lines.

    The work is done by Dask workers on this machine or on a cluster.
    """
    # a second of pyarrow and Dask: not for --help
    from kspecsr.surveys.engine import ClusterOptions, connected, run_partitions, tensorflow_threads
    from kspecsr.surveys.hats_catalogue import write_hats
    from kspecsr.surveys.inputs import planned_text, prepare
    from kspecsr.surveys.output import locked

    if args.dry_run:
        cli.say(f"{planned_text(args)}; nothing was written")
        return 0
    if args.precision == "auto":  # what is fast here, for all workers: their digits have to agree
        from kspecsr.models.precision import fast_policy  # seconds of Keras

        args.precision = fast_policy(args.precision)
    cluster = ClusterOptions(
        args.workers, args.threads, int(args.memory * 2**30), args.dashboard, args.scheduler
    )
    started = time.monotonic()
    with locked(args.output):
        settings, model = prepare(args)
        beside = f", {settings.with_gratings} with gratings" if args.gratings else ""
        cli.say(f"{settings.total} inputs in {settings.partitions} partitions{beside}")
        with connected(cluster) as client:
            cli.say(f"dashboard: {client.dashboard_link}")
            with Progress(total=settings.total, desc="survey", unit="spectrum", disable=args.quiet) as bar:
                summary = run_partitions(
                    client,
                    args.output.resolve(),
                    settings,
                    model.resolve(),
                    tensorflow_threads(client, cluster),
                    bar.update,
                    args.in_flight,
                )
        cli.say(_counts(summary, time.monotonic() - started))
        if summary.complete and not args.no_hats:
            cli.say(str(write_hats(args.output, settings)))
    cli.list_failures(summary.failed, "partitions failed")
    if summary.ended:
        cli.LOG.error("\nended early: %s; %s", summary.ended, cli.RESUMES)
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


if __name__ == "__main__":
    sys.exit(main())
