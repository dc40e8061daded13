"""``python -m benchmarks``: speeds of this project on this machine, in a clone.

Other programs on the same cores spoil the numbers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from data_pipeline import command_line as cli
from kspecsr.configuration import PRESETS, STAGES, load_preset

_PAPER_BATCH = 4  # the paper's networks take seconds per spectrum and gigabytes per batch


def _add_counts(p: argparse.ArgumentParser, **counts: tuple[int, str]) -> None:
    """Adds options of whole numbers from 1 on: name -> default, help."""
    for name, (default, text) in counts.items():
        option = f"--{name.replace('_', '-')}"
        cli.add(p, option, text, type=cli.at_least(1), default=default)


def _start_tensorflow(threads: int) -> None:
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    with cli.suppress_startup_stderr():
        from kspecsr.training.devices import find_devices  # TensorFlow: seconds

        find_devices()


def _preset_option(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--preset", ", ".join(PRESETS), default="default", metavar="NAME|FILE")


def _training_options(p: argparse.ArgumentParser) -> None:
    _preset_option(p)
    cli.add(p, "--stage", "stage to measure", choices=(*STAGES, "all"), default="all")
    cli.add(p, "--batch-size", "default: the preset's", type=cli.at_least(1))
    _add_counts(p, threads=(2, "threads of TensorFlow"), steps=(10, "steps measured"))
    cli.add(p, "--workers", "processes that simulate")
    cli.add(p, "--no-paper", "leave the paper's networks out", action="store_true")


_TRAINING = """examples:
  python -m benchmarks training
  python -m benchmarks training --stage sr1 --no-paper
"""


@cli.command("python -m benchmarks training", _TRAINING, _training_options)
def training(args: argparse.Namespace) -> None:
    """Training steps: arithmetic beside a dense product, waiting for data, cost per spectrum."""
    with cli.interpreting_options():
        preset = load_preset(args.preset)
    _start_tensorflow(args.threads)
    from benchmarks.training_speed import input_wait, step_speed

    stages = STAGES if args.stage == "all" else (args.stage,)
    paper = None if args.no_paper or preset.name == "paper" else PRESETS["paper"]
    cli.say(f"training steps, preset {preset.name}, {args.threads} threads")
    arithmetic = possible = 0.0
    for stage in stages:
        size = args.batch_size or preset.training[stage].batch_size
        speed = step_speed(preset, stage, size, args.steps)
        rows, inner, columns = speed.product
        arithmetic += speed.arithmetic
        possible += speed.seconds * speed.product_rate
        cli.say(
            f"{stage}: step of {size} spectra {speed.seconds:.3f} s, {speed.arithmetic / 1e9:.1f} GFLOP, "
            f"{speed.arithmetic / speed.seconds / 1e9:.0f} GFLOP/s; dense float32 product "
            f"{rows} x {inner} x {columns}: {speed.product_rate / 1e9:.0f} GFLOP/s; share {speed.share:.0%}"
        )
        wait = input_wait(preset, stage, size, args.steps, args.workers)
        cli.say(f"{stage}: waiting for fresh examples {wait:.1%} of the time, {args.workers} worker(s)")
        line = f"{stage}: {1e3 * speed.cost:.1f} ms per spectrum ({1 / speed.cost:.1f} spectra/s)"
        if paper is not None:
            other = step_speed(paper, stage, _PAPER_BATCH, max(2, args.steps // 4))
            line += f"; preset paper {1e3 * other.cost:.1f} ms, {other.cost / speed.cost:.1f} times as much"
        cli.say(line)
    if len(stages) > 1:
        cli.say(f"one step of each stage together: share {arithmetic / possible:.0%}")


def _batch_options(p: argparse.ArgumentParser) -> None:
    _add_counts(p, threads=(2, "threads of TensorFlow"))
    cli.add(
        p, "--batch-sizes", "spectra in a call", type=cli.at_least(1), nargs="+", default=[1, 16, 64, 128]
    )
    cli.add(p, "--seconds", "duration of each measurement", type=cli.above_zero, default=5.0)


def _inference_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model", "model (default: fresh weights, which are as quick)", default=None)
    _preset_option(p)
    _batch_options(p)
    cli.add(p, "--precision")
    cli.add(p, "--paper", "networks of the paper's size beside it, in the same run", action="store_true")


_INFERENCE = """examples:
  python -m benchmarks inference
  python -m benchmarks inference --model default --batch-sizes 64 --precision auto
"""


@cli.command("python -m benchmarks inference", _INFERENCE, _inference_options)
def inference(args: argparse.Namespace) -> None:
    """Spectra per second from arrays, with and without XLA."""
    with cli.interpreting_options():
        preset = load_preset(args.preset)
    _start_tensorflow(args.threads)
    from benchmarks.inference_speed import Inference
    from kspecsr.model_settings import find_model, read_settings

    folder = None if args.model is None else find_model(args.model)
    if folder is not None:
        preset = read_settings(folder).preset
    cli.say(f"inference from arrays, preset {preset.name}, {args.threads} threads, start-up excluded")
    rates: dict[str, float] = {}
    for compiled in (False, True):
        word = "with XLA" if compiled else "without XLA"
        measured = Inference(preset, folder, max(args.batch_sizes), compiled, args.precision)
        for size in args.batch_sizes:
            mode = f"batches of {size}, {word}"
            rates[mode] = measured.rate(size, args.seconds)
            cli.say(f"{mode}: {rates[mode]:.1f} spectra/s")
        mode = f"SuperResolver.predict_arrays, {word}"
        rates[mode] = measured.resolver_rate(args.seconds)
        cli.say(f"{mode}: {rates[mode]:.1f} spectra/s")
    best = max(rates, key=rates.__getitem__)
    cli.say(f"best: {best}, {rates[best]:.1f} spectra/s")
    if args.paper:
        measured = Inference(PRESETS["paper"], None, _PAPER_BATCH, False)
        paper = max(measured.rate(size, args.seconds) for size in (1, _PAPER_BATCH))
        cli.say(f"preset paper: {paper:.2f} spectra/s at best; {rates[best] / paper:.0f} times as many")


def _precision_options(p: argparse.ArgumentParser) -> None:
    for name in ("--model", "--population"):
        cli.add(p, name)
    p.set_defaults(population="survey")
    _add_counts(p, n=(1000, "galaxies"))


_PRECISION = "examples:\n  python -m benchmarks precision --population open-sky"


@cli.command("python -m benchmarks precision", _PRECISION, _precision_options)
def precision(args: argparse.Namespace) -> None:
    """What trunks in bfloat16 change of redshifts and line fluxes of simulated galaxies."""
    from benchmarks.inference_speed import precision_parity
    from kspecsr.model_settings import find_model

    for line in precision_parity(find_model(args.model), args.n, args.population):
        cli.say(line)


def _first_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    _add_counts(p, repeats=(3, "processes that are started, one after the other"))


@cli.command("python -m benchmarks first", "examples:\n  python -m benchmarks first", _first_options)
def first(args: argparse.Namespace) -> None:
    """Seconds from the prompt to the first result: kspecsr enhance of one simulated spectrum."""
    from benchmarks.inference_speed import first_result

    for number in range(args.repeats):
        wall, processor = first_result(args.model, PRESETS["default"])
        cli.say(f"first result {number + 1}: {wall:.1f} s, {processor:.1f} s of processor")


def _serving_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    cli.add(p, "--exported", "version of it (default: exported for this)", type=Path, metavar="DIR")
    _batch_options(p)


_SERVING = """examples:
  python -m benchmarks serving
  python -m benchmarks serving --exported saved_models/kspecsr/1
"""


@cli.command("python -m benchmarks serving", _SERVING, _serving_options, extra="serving")
def serving(args: argparse.Namespace) -> None:
    """The exported model: latency, throughput, start, memory, beside the Python path and a dense product."""
    _start_tensorflow(args.threads)
    from benchmarks.serving_speed import KINDS, ServingSpeed, cold_start
    from kspecsr.model_settings import find_model
    from kspecsr.serving.saved_model import export_model

    folder = find_model(args.model)
    cli.say(f"exported model, {args.threads} threads, NumPy arrays in and out")
    with tempfile.TemporaryDirectory() as temporary:
        exported = args.exported or export_model(folder, Path(temporary) / "kspecsr").folder
        for kind in KINDS:
            cli.say(f"start, {kind}: {cold_start(kind, exported, folder)}")
        measured = ServingSpeed(exported, folder, max(args.batch_sizes))
        for line in measured.report(args.batch_sizes, args.seconds):
            cli.say(line)


def _survey_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--output", "working folder", required=True)
    cli.add(p, "--model")
    cli.add(p, "--workers", default=2, type=cli.at_least(1))
    cli.add(p, "--threads", "threads in each (default: cores / workers)", type=cli.at_least(0), default=0)
    cli.add(p, "--memory", "limit of each worker", type=cli.above_zero, default=4.0, metavar="GIB")
    cli.add(p, "--seconds", "for each speed of the networks", type=cli.above_zero, default=15.0)
    cli.add(p, "--spectra", "keep spectra and P(z) too", action="store_true")
    _add_counts(
        p,
        n=(2000, "number of spectra"),
        partition_size=(256, "inputs per task"),
        rounds=(4, "of networks and partitions in turn"),
        survey_size=(10_000_000, "spectra of the survey that is calculated"),
        cores=(1000, "cores of the cluster for it"),
    )


_SURVEY = """examples:
  python -m benchmarks survey --output bench
  python -m benchmarks survey --output bench --n 20000 --workers 2
  python -m benchmarks survey --output bench --spectra --survey-size 10000000 --cores 1000

Simulates spectra, runs the networks alone (one process with all threads; all workers at once), then
kspecsr survey over all spectra, then the networks again. The share of the networks' speed is of one run, with
the better of both ways before and after. Last, networks and whole partitions take turns in the same
processes: other programs disturb that comparison least. What was simulated is kept in --output and used
again; the survey is made anew.
"""


@cli.command("python -m benchmarks survey", _SURVEY, _survey_options, extra="survey")
def survey(args: argparse.Namespace) -> None:
    """A survey of simulated spectra: its share of the networks' speed, memory, storage; larger ones' cost."""
    from benchmarks.survey import benchmark  # seconds of Dask

    benchmark(args)


@cli.command("python -m benchmarks linefit", "examples:\n  python -m benchmarks linefit\n", lambda p: None)
def linefit(args: argparse.Namespace) -> None:
    """Spectra per second of the direct line fit."""
    from benchmarks.rates import linefit_rates

    for what, rate in linefit_rates().items():
        cli.say(f"{rate:8.0f} spectra/s  {what}")


def _simulation_options(p: argparse.ArgumentParser) -> None:
    _add_counts(p, n=(1024, "number of galaxies"), workers=(2, "number of processes"))
    cli.add(p, "--seed", default=1)
    cli.add(p, "--population", metavar="NAME", help="of galaxies (default: each that ships)")
    cli.add(p, "--no-gratings", "the prism and the truth alone, as for training", action="store_true")


_SIMULATION = """examples:
  python -m benchmarks simulation
  python -m benchmarks simulation --population sky --no-gratings
"""


@cli.command("python -m benchmarks simulation", _SIMULATION, _simulation_options)
def simulation(args: argparse.Namespace) -> None:
    """Galaxies per second as arrays, and the largest memory of a process for n galaxies and for 4 n."""
    from benchmarks.simulation_speed import measure_speed
    from data_pipeline.simulation import POPULATIONS, SimulationConfig

    with cli.interpreting_options():
        configs = [SimulationConfig(name) for name in ([args.population] if args.population else POPULATIONS)]
    what = "without gratings" if args.no_gratings else "with gratings"
    for config in configs:
        for count in (args.n, 4 * args.n):
            result = measure_speed(count, args.seed, config, args.workers, not args.no_gratings)
            cli.say(
                f"{config.population.name}: {count} galaxies {what}, {args.workers} processes: "
                f"{result.rate:.0f} galaxies/s ({result.seconds:.1f} s after {result.start_up:.1f} s of "
                f"start-up), {result.per_core:.0f} per second of processor time, "
                f"largest process {result.peak_memory:.0f} MB"
            )


def _records_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "directory", "record directory", type=Path, metavar="DIR")
    cli.add(p, "--split", "split to read (default: the first)", default="")
    _add_counts(p, batch_size=(64, "examples in a batch"))


@cli.command(
    "python -m benchmarks records",
    "examples:\n  python -m benchmarks records data/records\n",
    _records_options,
)
def records(args: argparse.Namespace) -> None:
    """Examples per second of reading records, with NumPy and with tf.data."""
    from benchmarks.rates import reading_rates
    from data_pipeline.records import Manifest

    manifest = Manifest.read(args.directory)
    split = args.split or next(iter(manifest.splits))
    with cli.suppress_startup_stderr():
        rates = reading_rates(args.directory, split, args.batch_size)
    cli.say(f"reading {split!r} in batches of {args.batch_size}, all fields:")
    for name, rate in rates.items():
        cli.say(f"{name:<22} {manifest.count(split):>8,} examples, {rate:>8,.0f} per second")


def _proposal_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--stage", "stage whose space is searched", choices=STAGES, default="sr2")
    cli.add(
        p, "--algorithm", "of proposals", choices=("hyperband", "bayesian", "random"), default="hyperband"
    )
    _add_counts(p, trials=(100, "trials before the proposal"))
    cli.add(p, "--seed")


_PROPOSALS = """examples:
  python -m benchmarks proposals
  python -m benchmarks proposals --stage sr1 --trials 500 --algorithm bayesian

Goals are made up: nothing is trained. Exit status 1 if a proposal was repeated.
"""


@cli.command("python -m benchmarks proposals", _PROPOSALS, _proposal_options, extra="tuning")
def proposals(args: argparse.Namespace) -> int:
    """Seconds that a proposal of a sweep takes after many trials, and repeated ones."""
    from benchmarks.rates import proposal_times

    seconds, different, count = proposal_times(args.stage, args.algorithm, args.trials, args.seed)
    cli.say(
        f"{args.stage}, {args.algorithm}: proposal after {len(seconds) - 1} trials {seconds[-1]:.3f} s, "
        f"slowest {max(seconds):.3f} s; {different} of {count} configurations differ"
    )
    return int(different != count)


def _kinds_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--output", "picture, .png", type=Path, required=True, metavar="FILE")
    cli.add(p, "--population", default="open-sky")
    cli.add(p, "--seed", default=1)
    _add_counts(p, n=(1500, "spectra simulated"))


_KINDS = "examples:\n  python -m benchmarks kinds --output kinds.png\n"


@cli.command("python -m benchmarks kinds", _KINDS, _kinds_options)
def kinds(args: argparse.Namespace) -> None:
    """Draw one simulated prism spectrum of each kind and in each trouble, and print the S/N of each kind."""
    from benchmarks.open_sky_picture import draw_kinds, signal_table
    from data_pipeline.pictures.style import save_picture
    from data_pipeline.simulation import SimulationConfig, simulate_batch

    config = SimulationConfig(args.population)
    batch = simulate_batch(range(args.n), args.seed, config, gratings=False)
    cli.say(signal_table(batch))
    cli.say(f"picture: {save_picture(draw_kinds(batch), args.output)}")


def _dwarf_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--models", "FITS table of model spectra", type=Path, required=True, metavar="FILE")
    cli.add(p, "--output", "the table, .npz", type=Path, required=True, metavar="FILE")


_DWARFS = """examples:
  python -m benchmarks ultracool-dwarfs --models ultracool_dwarfs.fits --output ultracool_dwarfs.npz

The table that ships (data_pipeline/tables/ultracool_dwarfs.npz) was made like this, of ATMO2020++ models as
resampled to the NIRSpec prism in aburgasser/ucdmcmc (MIT).
"""


@cli.command("python -m benchmarks ultracool-dwarfs", _DWARFS, _dwarf_options)
def ultracool_dwarfs(args: argparse.Namespace) -> None:
    """Make the table of brown dwarfs that the simulator draws from."""
    from benchmarks.ultracool_dwarfs import dwarf_table
    from data_pipeline.simulation.dwarfs import write_dwarfs
    from data_pipeline.writers.atomic import replacing

    table = dwarf_table(args.models)
    with replacing(args.output) as temporary:
        write_dwarfs(temporary, table)
    temperatures, atmospheres, pixels = table.log_flux.shape
    cli.say(
        f"{args.output}: {temperatures} temperatures of {atmospheres} atmospheres, {pixels} wavelengths, "
        f"{args.output.stat().st_size / 1e6:.2f} MB"
    )


def _line_posterior_options(p: argparse.ArgumentParser) -> None:
    arms = ("head", "low-rank", "posterior")
    cli.add(p, "--arms", "ways to compare", choices=arms, nargs="+", default=list(arms))
    _add_counts(
        p,
        steps=(3000, "training steps of each way"),
        n=(12_000, "galaxies to train on"),
        held_out=(1536, "galaxies to judge on"),
        batch_size=(32, "galaxies in a step"),
        threads=(2, "threads of TensorFlow"),
    )
    cli.add(p, "--population", "to train on", default="wide-sky")
    cli.add(p, "--judged", "population of the galaxies to judge on", default="sky")


_LINE_POSTERIOR = """examples:
  python -m benchmarks line-posterior
  python -m benchmarks line-posterior --steps 200 --n 2000 --held-out 256
"""


@cli.command("python -m benchmarks line-posterior", _LINE_POSTERIOR, _line_posterior_options)
def line_posterior(args: argparse.Namespace) -> None:
    """Joint errors of line fluxes: a head with independent or low-rank errors, and the exact posterior."""
    _start_tensorflow(args.threads)
    from benchmarks.line_posterior import compare

    for line in compare(
        tuple(args.arms), args.steps, args.n, args.held_out, args.batch_size, (args.population, args.judged)
    ):
        cli.say(line)


def _broad_options(p: argparse.ArgumentParser) -> None:
    _add_counts(
        p,
        steps=(1500, "training steps, with and without broad components"),
        n=(6000, "galaxies to train on"),
        held_out=(1024, "galaxies to judge on"),
        batch_size=(32, "galaxies in a step"),
        threads=(2, "threads of TensorFlow"),
    )


@cli.command(
    "python -m benchmarks broad-lines", "examples:\n  python -m benchmarks broad-lines\n", _broad_options
)
def broad_lines(args: argparse.Namespace) -> None:
    """Broad components in the joint posterior of line fluxes, in a population with many of them."""
    _start_tensorflow(args.threads)
    from benchmarks.broad_lines import compare

    for line in compare(args.steps, args.n, args.held_out, args.batch_size, ("wide-sky", "sky")):
        cli.say(line)


def _grating_options(p: argparse.ArgumentParser) -> None:
    text = "line fluxes before the gratings: about the truth, or as a model with joint line errors has them"
    cli.add(p, "--prior", text, choices=("truth", "model"), default="truth")
    cli.add(p, "--model")
    cli.add(p, "--pairs", "folder of real prism spectra and gratings instead; with a model", metavar="DIR")
    cli.add(p, "--population", default="sky")
    cli.add(p, "--seed", default=1)
    _add_counts(p, n=(200, "galaxies simulated"), threads=(2, "threads of TensorFlow"))


_GRATINGS = """examples:
  python -m benchmarks gratings
  python -m benchmarks gratings --prior model --n 100
  python -m benchmarks gratings --pairs pairs_dja/
"""


@cli.command("python -m benchmarks gratings", _GRATINGS, _grating_options)
def gratings(args: argparse.Namespace) -> None:
    """The prism with one, two and three gratings: pulls, errors, ratios, arms that disagree, speed."""
    resolver = None
    if args.prior == "model" or args.pairs:
        _start_tensorflow(args.threads)
        import kspecsr

        resolver = kspecsr.load(args.model)
    from benchmarks.gratings_judgement import compare
    from benchmarks.gratings_pairs import compare_pairs

    if args.pairs:
        lines = compare_pairs(resolver, args.pairs)
    else:
        lines = compare(args.n, args.seed, args.population, resolver)
    for line in lines:
        cli.say(line)


def _mutated_options(p: argparse.ArgumentParser) -> None:
    _add_counts(p, n=(5000, "files"))
    cli.add(p, "--seed")


_MUTATED = """examples:
  python -m benchmarks mutated-files
  python -m benchmarks mutated-files --n 100000 --seed 2
"""


@cli.command("python -m benchmarks mutated-files", _MUTATED, _mutated_options)
def mutated_files(args: argparse.Namespace) -> int:
    """Read damaged files of every format: each has to be read, or refused by a text that names it.

    Exit status 1 where one ends in anything else.
    """
    from tqdm import tqdm

    from benchmarks.mutated_files import as_text, try_files

    with tempfile.TemporaryDirectory() as folder, tqdm(total=args.n, delay=2, disable=args.quiet) as bar:
        outcomes = try_files(args.n, args.seed, Path(folder), bar.update)
    cli.say(as_text(outcomes))
    return int(any(one.defects for one in outcomes.values()))


def _real_options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    cli.add(p, "--spectra", "folder of prism spectra, pairs*.csv for redshifts", metavar="DIR", type=Path)
    cli.add(p, "--gratings", "folder with pair_gs_*.fits", metavar="DIR", type=Path)
    cli.add(p, "--others", "files or folders of what is no galaxy", nargs="+", default=[], metavar="FILE")
    cli.add(p, "--threads", "threads of TensorFlow", type=cli.at_least(1), default=2)


_REAL = """examples:
  python -m benchmarks real-files --spectra real_spectra --gratings real_gratings --others h4_not_a_galaxy

Prints every prism spectrum with its known redshift; totals of Halpha + [N II] and [O III] of each pair over
what its gratings integrate to, of the model, of the direct fit at the known redshift and of the prism itself;
lines and broad components of single pairs; and what the model says of spectra that are no galaxy. A folder
that is not there is passed over, with a line that says so.
"""


@cli.command("python -m benchmarks real-files", _REAL, _real_options)
def real_files(args: argparse.Namespace) -> int:
    """A model on real files: redshifts, totals beside gratings, invented lines, and no galaxies."""
    _start_tensorflow(args.threads)
    from benchmarks.real_files import judge_others, judge_pairs, judge_prisms, judge_single_pairs
    from kspecsr.model_settings import find_model
    from kspecsr.super_resolver import SuperResolver

    resolver, unread = SuperResolver.from_folder(find_model(args.model)), []
    given = {
        "--spectra": [args.spectra] if args.spectra else [],
        "--gratings": [args.gratings] if args.gratings else [],
        "--others": [Path(one) for one in args.others],
    }
    for option, paths in given.items():
        absent = [str(path) for path in paths if not path.exists()]
        if absent or not paths:
            cli.say(f"{option}: skipped, {', '.join(absent) + ' is not there' if absent else 'not given'}\n")
            continue
        judges = []
        if option == "--spectra":
            judges = [judge_prisms(resolver, paths[0], unread)]
            judges += [judge_pairs(resolver, one, unread) for one in sorted(paths[0].rglob("pairs*.csv"))]
        elif option == "--gratings":
            judges = [judge_single_pairs(resolver, paths[0])]
        else:
            judges = [judge_others(resolver, args.others, unread)]
        for judge in judges:
            for line in judge:
                cli.say(line)
            cli.say()
    return cli.list_failures(unread, "not read")


main = cli.CommandTable(
    "python -m benchmarks",
    "Speeds of kspecsr on this machine.",
    {
        "networks": {
            "training": (training, "training steps and waiting for data"),
            "first": (first, "seconds to the first result"),
            "inference": (inference, "spectra per second from arrays"),
            "precision": (precision, "what bfloat16 changes of the results"),
            "serving": (serving, "the exported model beside the Python path"),
            "line-posterior": (line_posterior, "ways to joint errors of line fluxes"),
            "real-files": (real_files, "a model on real files: redshifts, totals beside gratings, others"),
            "broad-lines": (broad_lines, "broad components in the joint posterior"),
            "survey": (survey, "a survey end to end, and the cost of larger ones"),
        },
        "everything else": {
            "linefit": (linefit, "the direct line fit"),
            "gratings": (gratings, "the prism together with its gratings"),
            "simulation": (simulation, "the simulator, and its memory"),
            "records": (records, "reading records"),
            "proposals": (proposals, "proposals of a sweep"),
            "kinds": (kinds, "a picture of what the simulator draws"),
            "mutated-files": (mutated_files, "damaged files of every format, read or refused"),
            "ultracool-dwarfs": (ultracool_dwarfs, "make the simulator's table of brown dwarfs"),
        },
    },
)

if __name__ == "__main__":
    sys.exit(main())
