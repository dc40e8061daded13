"""Command line: ``python -m kspecsr.evaluation.identical_networks`` (paper Fig. 9)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.quiet_start import held_back_stderr

EXAMPLES = """examples:
  # the model that ships, on fresh simulation; the same command goes on where it was stopped
  python -m kspecsr.evaluation.identical_networks --model default --output report/identical
  # on records: trained on their training split, judged on their test split
  python -m kspecsr.evaluation.identical_networks --model runs/jades --data data/jades --output report/fig9
  # a quick look
  python -m kspecsr.evaluation.identical_networks --model default --output /tmp/fig9 --epochs 2 --n 200

Three networks with the architecture of the model's redshift stage, the same first weights, the same galaxies
in the same order and the same schedule see one spectrum per galaxy on the unified grid: LR, the interpolated
prism; SR, the model's output; HR, the gratings with their noise. Pixels that prism or gratings lack are shown
to none. The super-resolved spectrum holds what the model has learned on galaxies of its own training, its
redshift stage included, which the other two inputs do not: SR better than LR says that its lines stand in the
right places, not that there is more in it than the prism saw. Writes identical_networks.json, .npz and .png.
"""
# The paper's number of augmented spectra; about 18 minutes on two cores.
_EPOCHS, _STEPS, _BATCH, _RATE = 16, 50, 32, 2e-3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.evaluation.identical_networks",
        description="Trains identical redshift networks on prism, super-resolved and grating spectra and "
        "compares their redshifts on held-out galaxies.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--model", default="default", metavar="NAME|DIR", help="under judgement (default: default)"
    )
    p.add_argument(
        "--data",
        default="simulation",
        metavar="DIR|simulation",
        help="records, or fresh simulation (default)",
    )
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="made if it is not there")
    p.add_argument("--n", type=int, default=1000, help="held-out galaxies (default %(default)s)")
    p.add_argument("--epochs", type=int, default=_EPOCHS, help="default %(default)s")
    p.add_argument("--steps-per-epoch", type=int, default=_STEPS, metavar="N", help="default %(default)s")
    p.add_argument("--batch-size", type=int, default=_BATCH, metavar="N", help="default %(default)s")
    p.add_argument("--learning-rate", type=float, default=_RATE, metavar="X", help="at its peak")
    p.add_argument("--seed", type=int, default=0, help="of weights and training galaxies (default 0)")
    p.add_argument("--split", default="test", help="of the records that is held out (default %(default)s)")
    p.add_argument("--workers", type=int, default=1, help="processes that simulate (default %(default)s)")
    p.add_argument("--restart", action="store_true", help="begin again where OUTPUT holds a training")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    p = parser()
    args = p.parse_args(argv)
    for name, least in (("n", 2), ("epochs", 1), ("seed", 0), ("workers", 0)):
        if getattr(args, name) < least:
            p.error(f"--{name}: expected {least} or more, got {getattr(args, name)}")
    try:
        _run(args)
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; the same command{' without --restart' if args.restart else ''} goes on after "
            f"the last finished epoch in {args.output}",
            file=sys.stderr,
        )
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    """Everything that needs Keras is imported here: seconds that --help does not wait."""
    from kspecsr.configuration import TrainingConfig
    from kspecsr.evaluation.sources import SHIPPED_SEED
    from kspecsr.feeds.choice import choose_data
    from kspecsr.model_settings import find_model, read_settings, weights_hash

    training = TrainingConfig(
        epochs=args.epochs,
        steps_per_epoch=args.steps_per_epoch,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
    )
    choice, folder = choose_data(args.data), find_model(args.model)
    settings = read_settings(folder)
    print(choice.reason, f"model: {folder}", f"output: {args.output}", sep="\n", flush=True)
    with held_back_stderr():
        from kspecsr.evaluation.identical_training import IdenticalRun, compare_inputs, table
        from kspecsr.super_resolver import SuperResolver
        from kspecsr.training.devices import find_devices

        find_devices()
        networks = SuperResolver.from_folder(folder)
    if args.restart:
        (args.output / "state.npz").unlink(missing_ok=True)
    run = IdenticalRun(
        config=settings.preset.model,
        training=training,
        directory=choice.directory,
        n=args.n,
        seed=args.seed,
        held_out_seed=SHIPPED_SEED,
        split=args.split,
        workers=args.workers,
        model=weights_hash(folder),
    )
    print(table(compare_inputs(run, networks, args.output, _say)), flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
