"""Command line that measures speed: ``python -m benchmarks.benchmark``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from data_pipeline.command_line import suppress_startup_stderr
from kspecsr.configuration import PRESETS, STAGES, Preset, load_preset

_PAPER_BATCH = 4  # the paper's networks take seconds per spectrum and gigabytes per batch
_EXAMPLES = """examples:
  # arithmetic of training steps beside a dense product, waiting for data, cost beside the paper's networks
  python -m benchmarks.benchmark training
  # one stage, without the paper's networks
  python -m benchmarks.benchmark training --stage sr1 --no-paper
  # spectra per second from arrays, with and without XLA
  python -m benchmarks.benchmark inference
  python -m benchmarks.benchmark inference --model default --batch-sizes 64
  # the exported model: latency, throughput, start, memory, beside the Python path and a dense product
  python -m benchmarks.benchmark serving
  python -m benchmarks.benchmark serving --exported saved_models/kspecsr/1

Runs on --threads cores; other programs on the same cores spoil the numbers.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.benchmark",
        description="Measures the speed of training and of inference on this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("training", "inference", "serving"))
    parser.add_argument("--preset", default="default", metavar="NAME|FILE", help=", ".join(PRESETS))
    parser.add_argument("--threads", type=int, default=2, help="of TensorFlow (default %(default)s)")
    training = parser.add_argument_group("training")
    training.add_argument("--stage", choices=(*STAGES, "all"), default="all")
    training.add_argument("--batch-size", type=int, help="default: the preset's")
    training.add_argument("--steps", type=int, default=10, help="measured (default %(default)s)")
    training.add_argument("--workers", type=int, default=1, help="that simulate (default %(default)s)")
    training.add_argument("--no-paper", action="store_true", help="leave the paper's networks out")
    inference = parser.add_argument_group("inference and serving")
    inference.add_argument(
        "--model",
        metavar="NAME|DIR",
        help="shipped model or model folder (inference: fresh weights, as quick; serving: default)",
    )
    inference.add_argument(
        "--exported", type=Path, metavar="DIR", help="version of that model (serving: exported for it)"
    )
    inference.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16, 64, 128], metavar="N")
    inference.add_argument("--seconds", type=float, default=5.0, help="for each (default %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    counts = [arguments.threads, arguments.steps, arguments.batch_size or 1, *arguments.batch_sizes]
    if min(counts) < 1 or arguments.workers < 0:
        parser.error("expected positive numbers of threads, steps and spectra, and no negative --workers")
    try:
        preset = load_preset(arguments.preset)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(arguments.threads)
    try:
        with suppress_startup_stderr():
            from kspecsr.training.devices import find_devices  # TensorFlow: seconds

            find_devices()
        if arguments.what == "training":
            _training(arguments, preset)
        elif arguments.what == "serving":
            _serving(arguments)
        else:
            _inference(arguments, preset)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _training(arguments: argparse.Namespace, preset: Preset) -> None:
    from benchmarks.training_speed import input_wait, step_speed

    stages = STAGES if arguments.stage == "all" else (arguments.stage,)
    paper = None if arguments.no_paper or preset.name == "paper" else PRESETS["paper"]
    print(f"training steps, preset {preset.name}, {arguments.threads} threads", flush=True)
    arithmetic = possible = 0.0
    for stage in stages:
        size = arguments.batch_size or preset.training[stage].batch_size
        speed = step_speed(preset, stage, size, arguments.steps)
        rows, inner, columns = speed.product
        arithmetic += speed.arithmetic
        possible += speed.seconds * speed.product_rate
        print(
            f"{stage}: step of {size} spectra {speed.seconds:.3f} s, {speed.arithmetic / 1e9:.1f} GFLOP, "
            f"{speed.arithmetic / speed.seconds / 1e9:.0f} GFLOP/s; dense float32 product "
            f"{rows} x {inner} x {columns}: {speed.product_rate / 1e9:.0f} GFLOP/s; share {speed.share:.0%}"
        )
        wait = input_wait(preset, stage, size, arguments.steps, arguments.workers)
        print(f"{stage}: waiting for fresh examples {wait:.1%} of the time, {arguments.workers} worker(s)")
        line = f"{stage}: {1e3 * speed.cost:.1f} ms per spectrum ({1 / speed.cost:.1f} spectra/s)"
        if paper is not None:
            other = step_speed(paper, stage, _PAPER_BATCH, max(2, arguments.steps // 4))
            line += f"; preset paper {1e3 * other.cost:.1f} ms, {other.cost / speed.cost:.1f} times as much"
        print(line, flush=True)
    if len(stages) > 1:
        print(f"one step of each stage together: share {arithmetic / possible:.0%}")


def _inference(arguments: argparse.Namespace, preset: Preset) -> None:
    from benchmarks.inference_speed import Inference
    from kspecsr.model_settings import find_model, read_settings

    folder = None if arguments.model is None else find_model(arguments.model)
    if folder is not None:
        preset = read_settings(folder).preset
    print(f"inference from arrays, preset {preset.name}, {arguments.threads} threads, start-up excluded")
    rates: dict[str, float] = {}
    for compiled in (False, True):
        word = "with XLA" if compiled else "without XLA"
        measured = Inference(preset, folder, max(arguments.batch_sizes), compiled)
        for size in arguments.batch_sizes:
            mode = f"batches of {size}, {word}"
            rates[mode] = measured.rate(size, arguments.seconds)
            print(f"{mode}: {rates[mode]:.1f} spectra/s", flush=True)
        mode = f"SuperResolver.predict_arrays, {word}"
        rates[mode] = measured.resolver_rate(arguments.seconds)
        print(f"{mode}: {rates[mode]:.1f} spectra/s", flush=True)
    best = max(rates, key=rates.__getitem__)
    print(f"best: {best}, {rates[best]:.1f} spectra/s", flush=True)


def _serving(arguments: argparse.Namespace) -> None:
    from benchmarks.serving_speed import KINDS, ServingSpeed, cold_start
    from kspecsr.model_settings import find_model
    from kspecsr.serving.saved_model import export_model

    folder = find_model(arguments.model or "default")
    print(f"exported model, {arguments.threads} threads, NumPy arrays in and out", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        exported = arguments.exported or export_model(folder, Path(temporary) / "kspecsr").folder
        for kind in KINDS:
            print(f"start, {kind}: {cold_start(kind, exported, folder)}", flush=True)
        measured = ServingSpeed(exported, folder, max(arguments.batch_sizes))
        for line in measured.report(arguments.batch_sizes, arguments.seconds):
            print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
