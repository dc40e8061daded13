"""``kspecsr browse``: a local web page to look through results."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from data_pipeline import command_line as cli
from data_pipeline.progress import Progress

EXAMPLES = """examples:
  kspecsr browse results
  kspecsr browse survey --port 5010
  kspecsr browse survey/objects/part-000000.parquet --no-open

PATH is the output of kspecsr survey (or a Parquet file in it), or a folder of results of kspecsr enhance.
The page sorts and filters the table, shows the spectrum of the row that is clicked, moves its lines with a
slider and runs the model again at that redshift. Nothing is fetched from the internet, and nothing is
written. A survey without --spectra is run again from its inputs, one click at a time. Ctrl-C ends it.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "path", "results of survey or enhance; see below", type=Path, metavar="PATH")
    cli.add(p, "--model", "model that is run again")
    cli.add(p, "--port", "port of the page; 0 takes a free one", type=int, default=5006)
    cli.add(p, "--no-open", "do not open a browser", action="store_true")


@cli.command("kspecsr browse", EXAMPLES, _options, extra="browse")
def main(args: argparse.Namespace) -> NoReturn:
    """Look through results in a web browser: table, spectra, lines, P(z), another redshift."""
    if not 0 <= args.port < 65536:
        raise cli.OptionError(f"--port: expected 0 to 65535, got {args.port}")
    # seconds of Panel: not for --help
    from kspecsr.browser.page import ModelRunner, serve
    from kspecsr.browser.sources import EnhanceSource, SurveySource, place_of
    from kspecsr.model_settings import find_model

    kind, folder = place_of(args.path)
    runner = ModelRunner(str(find_model(args.model)))

    def progress(items):
        return Progress(list(items), desc="read", unit="file", delay=2, disable=args.quiet)

    source = SurveySource(folder, progress) if kind == "survey" else EnhanceSource(folder, progress)
    for text in getattr(source, "unread", ()):
        cli.LOG.warning("not read: %s", text)
    runner.start()
    serve(source, runner, args.port, not args.no_open, cli.say)
    raise KeyboardInterrupt  # which the server has caught: there is no other way out of it


if __name__ == "__main__":
    sys.exit(main())
