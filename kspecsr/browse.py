"""Command line: ``python -m kspecsr.browse``: a local web page to look through results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

EXAMPLES = """examples:
  python -m kspecsr.browse results
  python -m kspecsr.browse survey --port 5010
  python -m kspecsr.browse survey/objects/part-000000.parquet --no-open

PATH is the output of python -m kspecsr.survey (or a Parquet file in it), or a folder of results of
python -m kspecsr.enhance. The page sorts and filters the table, shows the spectrum of the row that is
clicked, moves its lines with a slider and runs the model again at that redshift. Nothing is fetched from the
internet, and nothing is written. A survey without --spectra is run again from its inputs, one click at a
time. Ctrl-C ends it.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.browse",
        description="Look through results in a web browser: table, spectra, lines, P(z), another redshift.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("path", type=Path, metavar="PATH", help="results of survey or enhance; see below")
    p.add_argument(
        "--model", default="default", metavar="NAME|DIR", help="that runs again (default: %(default)s)"
    )
    p.add_argument("--port", type=int, default=5006, help="default %(default)s; 0 takes a free one")
    p.add_argument("--no-open", action="store_true", help="do not open a browser")
    return p


def browse(args: argparse.Namespace) -> NoReturn:
    """Serves the page until it is interrupted."""
    # seconds of Panel: not for --help
    from kspecsr.browser.model_runner import ModelRunner
    from kspecsr.browser.page import serve
    from kspecsr.browser.sources import EnhanceSource, SurveySource
    from kspecsr.browser.view import place_of
    from kspecsr.model_settings import find_model

    kind, folder = place_of(args.path)
    runner = ModelRunner(str(find_model(args.model)))

    def progress(items):
        return tqdm(list(items), desc="read", unit="file", delay=2)

    source = SurveySource(folder, progress) if kind == "survey" else EnhanceSource(folder, progress)
    for text in getattr(source, "unread", ()):
        print(f"not read: {text}", file=sys.stderr)
    runner.start()
    serve(source, runner, args.port, not args.no_open, lambda text: print(text, flush=True))
    raise KeyboardInterrupt  # which the server has caught: there is no other way out of it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if there is nothing to show, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    if not 0 <= args.port < 65536:
        p.error(f"--port: expected 0 to 65535, got {args.port}")
    try:
        browse(args)
    except ModuleNotFoundError as error:
        print(f"error: {error}; browsing needs the extra: pip install 'kspecsr[browse]'", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
