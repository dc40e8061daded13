"""One run of ``python -m kspecsr.enhance`` or ``python -m kspecsr.client``, from options to exit status."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from kspecsr.enhancement.files import Settings
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.enhancement.known_redshifts import KnownRedshifts
from kspecsr.enhancement.run import Summary, enhance_files
from kspecsr.enhancement.writable import check_writable
from kspecsr.resolver import Resolver


def enhance_as_asked(
    args: argparse.Namespace, model_sha256: str, make_resolver: Callable[[], Resolver]
) -> int:
    """Does what the options say, and prints what came of it.

    Args:
        args: of `kspecsr.enhancement.options.add_options`.
        model_sha256: of the weights that `make_resolver` loads or that a server has.
        make_resolver: called once there is something to do.

    Returns:
        Exit status: 0 all done, 1 some failed.

    Raises:
        ValueError, OSError: if nothing could be done.
    """
    settings = Settings(
        output=args.output,
        format=args.format,
        plot=args.plot,
        extraction=args.extraction,
        overwrite=args.overwrite,
        model_sha256=model_sha256,
        redshifts=KnownRedshifts.parse(args.redshift),
    )
    files = list_inputs(args.files)
    check_writable(args.output)
    started = time.monotonic()
    with tqdm(total=len(files), desc="enhance", unit="file", delay=2, disable=args.quiet) as bar:
        report = (lambda line: None) if args.quiet else bar.write
        summary = enhance_files(files, settings, make_resolver, args.workers, report, bar.update)
    print(_counts(summary, time.monotonic() - started))
    if summary.failures:
        print(f"\n{len(summary.failures)} failed:", *summary.failures, sep="\n  ", file=sys.stderr)
    if summary.ended:
        print(f"\nended early: {summary.ended}; the same command goes on from there", file=sys.stderr)
    return 1 if summary.failures or summary.ended else 0


def _counts(summary: Summary, seconds: float) -> str:
    parts = [f"{summary.made} results in {seconds:.1f} s"]
    if summary.flagged:
        parts.append(f"{summary.flagged} of them without lines (FLAGS in their headers)")
    if summary.without_redshift:
        parts.append(f"{summary.without_redshift} of them without a redshift in the table, so inferred")
    if summary.done:
        parts.append(f"{summary.done} were there already")
    if summary.no_prism:
        parts.append(f"{summary.no_prism} files in folders are no prism spectra")
    return "; ".join(parts)
