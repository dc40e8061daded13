"""``kspecsr export``: a trained model for TensorFlow Serving."""

import argparse
import sys
import time

from data_pipeline import command_line as cli

EXAMPLES = """examples:
  kspecsr export --model default --output saved_models/kspecsr
  kspecsr export --model runs/mine --output served/mine --version 3

Writes DIR/VERSION/, a SavedModel of stock TensorFlow operations that needs nothing of this package: masks,
resampling, the three networks, calibration, flags. Beside it models.config, batching.config and README.md,
which says how to start a server and call it. The last part of DIR is what the server calls the model.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    cli.add(p, "--output", "folder of the versions", required=True)
    cli.add(p, "--version", "number of the version (default: the next free one)", type=cli.at_least(1))


@cli.command("kspecsr export", EXAMPLES, _options, extra="serving")
def main(args: argparse.Namespace) -> None:
    """Export a trained model as a SavedModel for TensorFlow Serving."""
    started = time.monotonic()
    # seconds of TensorFlow: not for --help
    with cli.suppress_startup_stderr():
        from kspecsr.model_settings import find_model
        from kspecsr.serving.saved_model import export_model
        from kspecsr.training.devices import find_devices

        find_devices()
    folder = find_model(args.model)
    cli.LOG.info("tracing the graphs of %s (a minute) ...", folder)
    exported = export_model(folder, args.output, args.version)
    print(
        f"{exported.folder}: {exported.size / 1e6:.1f} MB, {exported.operations} kinds of stock TensorFlow "
        f"operations, model {exported.identity.name} ({exported.identity.sha256[:12]}), "
        f"{time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
