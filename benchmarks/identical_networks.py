"""``kspecsr identical-networks``: what a redshift network gains from super-resolution (paper Fig. 9)."""

from __future__ import annotations

import argparse
import sys

from data_pipeline import command_line as cli

EXAMPLES = """examples:
  # the model that ships, on fresh simulation; rerun the same command to resume
  kspecsr identical-networks --model default --output report/identical
  # on records: trained on their training split, judged on their test split
  kspecsr identical-networks --model runs/jades --data data/jades --output report/fig9
  # a quick look
  kspecsr identical-networks --model default --output /tmp/fig9 --epochs 2 --n 200

Three networks with the architecture of the model's redshift stage, the same first weights, the same galaxies
in the same order and the same schedule see one spectrum per galaxy on the unified grid: LR, the interpolated
prism; SR, the model's output; HR, the gratings with their noise. Pixels that prism or gratings lack are shown
to none. The super-resolved spectrum holds what the model has learned on galaxies of its own training, its
redshift stage included, which the other two inputs do not: SR better than LR says that its lines stand in the
right places, not that there is more in it than the prism saw. Writes identical_networks.json, .npz and .png.
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    cli.add(p, "--data", "records, or fresh simulation", default="simulation")
    cli.add(p, "--output", required=True)
    cli.add(p, "--n", "number of held-out galaxies", type=cli.at_least(2), default=1000)
    # The paper's number of augmented spectra; about 18 minutes on two cores.
    cli.add(p, "--epochs", "epochs of training", type=cli.at_least(1), default=16)
    cli.add(p, "--steps-per-epoch", "steps of an epoch", type=int, default=50)
    cli.add(p, "--batch-size", "galaxies in a batch", type=int, default=32)
    cli.add(p, "--learning-rate", "learning rate at its peak", type=float, default=2e-3)
    cli.add(p, "--seed", "random seed of weights and training galaxies")
    cli.add(p, "--split", "split of the records that is held out", default="test")
    cli.add(p, "--workers", "processes that simulate")
    cli.add(p, "--restart", "begin again where OUTPUT holds a training", action="store_true")


@cli.command("kspecsr identical-networks", EXAMPLES, _options, interrupted=cli.RESUMES)
def main(args: argparse.Namespace) -> None:
    """Compare redshifts from prism, super-resolved and grating spectra (paper Fig. 9).

    Three identical redshift networks are trained, one on each, and judged on held-out galaxies.
    """
    # seconds of Keras: not for --help
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
    cli.say(f"{choice.reason}\nmodel: {folder}\noutput: {args.output}")
    with cli.suppress_startup_stderr():
        from benchmarks.identical_training import IdenticalRun, compare_inputs, table
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
    cli.say(table(compare_inputs(run, networks, args.output, cli.say)))


if __name__ == "__main__":
    sys.exit(main())
