"""Command line: ``python -m kspecsr.export``: a trained model for TensorFlow Serving."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.quiet_start import held_back_stderr

EXAMPLES = """examples:
  python -m kspecsr.export --model default --output saved_models/kspecsr
  python -m kspecsr.export --model runs/mine --output served/mine --version 3

Writes DIR/VERSION/, a SavedModel of stock TensorFlow operations that needs nothing of this package: masks,
resampling, the three networks, calibration, flags. Beside it models.config, batching.config and README.md,
which says how to start a server and call it. The last part of DIR is what the server calls the model.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.export",
        description="Export a trained model as a SavedModel for TensorFlow Serving.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--model", default="default", metavar="NAME|DIR", help="shipped model or model folder (%(default)s)"
    )
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the versions")
    p.add_argument("--version", type=int, metavar="N", help="number (default: the next free one)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    p = parser()
    args = p.parse_args(argv)
    if args.version is not None and args.version < 1:
        p.error(f"--version: expected 1 or more, got {args.version}")
    started = time.monotonic()
    try:
        # seconds of TensorFlow: not for --help
        with held_back_stderr():
            from kspecsr.model_settings import find_model
            from kspecsr.serving.saved_model import export_model
            from kspecsr.training.devices import find_devices

            find_devices()
        folder = find_model(args.model)
        print(f"tracing the graphs of {folder} (a minute) ...", file=sys.stderr)
        exported = export_model(folder, args.output, args.version)
    except ModuleNotFoundError as error:
        if error.name not in ("tensorflow_serving", "tensorflow_serving.apis", "grpc"):
            raise
        print(f"error: needs {error.name}: pip install 'kspecsr[serving]'", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    print(
        f"{exported.folder}: {exported.size / 1e6:.1f} MB, {exported.operations} kinds of stock TensorFlow "
        f"operations, model {exported.identity.name} ({exported.identity.sha256[:12]}), "
        f"{time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
