"""Command line: ``python -m benchmarks.survey_benchmark``: what a survey costs, measured here."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_pipeline.simulation import SimulationConfig, simulate_batch
from data_pipeline.writers.atomic import replacing

EXAMPLES = """examples:
  python -m benchmarks.survey_benchmark --output bench
  python -m benchmarks.survey_benchmark --output bench --n 20000 --workers 2
  python -m benchmarks.survey_benchmark --output bench --spectra --survey-size 10000000 --cores 1000

Simulates spectra, runs the networks alone (one process with all threads; all workers at once), then
python -m kspecsr.survey over all spectra, then the networks again. Other programs on the same cores spoil
the absolute figures; the share of the networks' speed is of one run, with the better of both ways before and
after. Last, networks and whole partitions take turns in the same processes: that comparison other programs
disturb least. What was simulated is kept in --output and used again; the survey is made anew.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.survey_benchmark",
        description="Measures a survey of simulated spectra end to end: its share of the networks' speed, "
        "its memory over time, its storage; and what larger ones cost.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="working folder")
    p.add_argument("--n", type=int, default=2000, help="spectra (default %(default)s)")
    p.add_argument("--model", default="default", metavar="NAME|DIR", help="default %(default)s")
    p.add_argument("--workers", type=int, default=2, help="processes (default %(default)s)")
    p.add_argument("--threads", type=int, default=0, help="of TensorFlow in each (default: cores / workers)")
    p.add_argument("--partition-size", type=int, default=256, help="default %(default)s")
    p.add_argument(
        "--memory", type=float, default=4.0, metavar="GIB", help="of each worker (default %(default)s)"
    )
    p.add_argument("--seconds", type=float, default=15.0, help="for each speed of the networks (%(default)s)")
    p.add_argument("--rounds", type=int, default=4, help="of networks and partitions in turn (%(default)s)")
    p.add_argument("--spectra", action="store_true", help="keep spectra and P(z) too")
    p.add_argument("--survey-size", type=int, default=10_000_000, help="of the arithmetic (%(default)s)")
    p.add_argument("--cores", type=int, default=1000, help="of the arithmetic (%(default)s)")
    return p


def benchmark(args: argparse.Namespace) -> None:
    """Measures and prints."""
    # seconds of Dask: not for --help
    from benchmarks.survey_benchmark import write_simulated_catalogue
    from benchmarks.survey_cost import arithmetic
    from benchmarks.survey_measurement import measure_costs, measure_survey, network_speed, side_by_side
    from kspecsr.surveys.engine import ClusterOptions
    from kspecsr.surveys.inputs import prepare
    from kspecsr.surveys.settings import InputColumns

    args.output.mkdir(parents=True, exist_ok=True)
    catalogue = args.output / f"simulated-{args.n}.parquet"
    if not catalogue.exists():
        with tqdm(total=args.n, desc="simulate", unit="spectrum", delay=2) as bar:
            write_simulated_catalogue(catalogue, args.n, bar.update)
    folder = args.output / "survey"
    shutil.rmtree(folder, ignore_errors=True)
    survey = argparse.Namespace(
        inputs=[str(catalogue)],
        output=folder,
        model=args.model,
        partition_size=args.partition_size,
        extraction="3pix",
        spectra=args.spectra,
        **dict.fromkeys(InputColumns.__dataclass_fields__, ""),
    )
    settings, model = prepare(survey)
    folder, model = folder.resolve(), model.resolve()
    cluster = ClusterOptions(args.workers, args.threads, int(args.memory * 2**30), 0)
    print(
        f"{settings.total} simulated spectra, partitions of {settings.partition_size}, {args.workers} "
        f"workers of {cluster.threads_each} thread(s), weights {settings.model_sha256[:12]}",
        flush=True,
    )
    before = network_speed(folder, settings, model, cluster, args.seconds)
    _print_rates("before", before)
    with tqdm(total=settings.total, desc="survey", unit="spectrum", delay=2) as bar:
        run = measure_survey(folder, settings, model, cluster, bar.update)
    after = network_speed(folder, settings, model, cluster, args.seconds)
    _print_rates("after", after)
    pure = max((before.single + after.single) / 2, (before.together + after.together) / 2)
    _print_run(run, settings, pure)
    pair = side_by_side(folder, settings, model, cluster, args.rounds)
    print(
        f"in turn in the same processes, {args.rounds} rounds, per spectrum: networks alone "
        f"{1e3 * pair.networks:.1f} ms, {1e3 * pair.networks_core:.2f} ms of a core; from inputs to tables "
        f"{1e3 * pair.partitions:.1f} ms, {1e3 * pair.partitions_core:.2f} ms of a core: "
        f"{pair.networks / pair.partitions:.0%} of the networks' speed, "
        f"{pair.networks_core / pair.partitions_core:.0%} by time on a core",
        flush=True,
    )
    costs = measure_costs(folder, settings, cluster, run, pair.partitions_core)
    print(
        f"start-up of a worker {costs.start_up:.0f} s; per partition: scheduler "
        f"{1e3 * costs.scheduling:.2f} ms, whether it is done {1e3 * costs.checking:.2f} ms; per input: "
        f"listing {1e6 * costs.plan:.1f} us; per object: HATS {1e6 * costs.hats:.0f} us"
    )
    print(arithmetic(costs, args.survey_size, args.cores), flush=True)


def _print_rates(when: str, speed) -> None:
    print(
        f"networks alone, {when}: {speed.single:.1f} spectra/s in one process, {speed.together:.1f} in all "
        f"workers together, {1e3 * speed.core:.2f} ms of a core each",
        flush=True,
    )


def _print_run(run, settings, pure: float) -> None:
    total, reports = settings.total, run.summary.reports
    everything = total / run.seconds
    spent = {name: sum(getattr(r, name) for r in reports) for name in ("reading", "networks", "writing")}
    share = ", ".join(f"{name} {seconds / sum(spent.values()):.1%}" for name, seconds in spent.items())
    print(
        f"survey: {total} spectra in {run.seconds:.1f} s with start-up ({run.started:.1f} s to the first "
        f"partitions) and HATS ({run.hats:.1f} s): {everything:.1f} spectra/s, {everything / pure:.0%} of "
        f"the networks' {pure:.1f}\n"
        f"survey after the first partitions: {run.steady_rate:.1f} spectra/s, {run.steady_rate / pure:.0%} "
        f"of the networks'\n"
        f"time of the workers: {share} (networks with what is made of their outputs)\n"
        f"memory by quarters of the run [GiB], largest worker: "
        f"{', '.join(f'{w / 2**30:.2f}' for _, w in run.quarters)}; client: "
        f"{', '.join(f'{c / 2**30:.2f}' for c, _ in run.quarters)}; peak of a worker "
        f"{max(r.peak for r in reports) / 2**30:.2f}"
    )
    half = len(reports) // 2
    early, late = (max(r.resident for r in part) for part in (reports[: half or 1], reports[half:]))
    print(
        f"memory of a worker after a partition, second half of the run over first: {late / early:.3f}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 where something failed, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    numbers = (args.n, args.rounds, args.workers, args.partition_size, args.survey_size, args.cores)
    if min(numbers) < 1 or args.threads < 0 or not (args.memory > 0 and args.seconds > 0):
        p.error("expected positive numbers")
    try:
        benchmark(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())


_UNIT = "1e-20 erg/(s cm2 Angstrom)"
_SEED = 2**41  # no training, validation or demonstration has it
_ROWS = 256
SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string()),
        pa.field("ra", pa.float64(), metadata={"unit": "deg"}),
        pa.field("dec", pa.float64(), metadata={"unit": "deg"}),
        pa.field("z_true", pa.float64()),
        pa.field("wavelength", pa.list_(pa.float64()), metadata={"unit": "um"}),
        pa.field("flux", pa.list_(pa.float32()), metadata={"unit": _UNIT}),
        pa.field("error", pa.list_(pa.float32()), metadata={"unit": _UNIT}),
        pa.field("mask", pa.list_(pa.bool_())),
    ]
)


def write_simulated_catalogue(
    path: Path, n: int, advance: Callable[[int], object], seed: int = _SEED
) -> None:
    """Writes ``n`` spectra of the simulated survey, a row group at a time.

    Args:
        path: of the Parquet file.
        n: spectra.
        advance: takes the number of spectra that were written.
        seed: of the simulation.
    """
    config = SimulationConfig("survey")
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for start in range(0, n, _ROWS):
            index = np.arange(start, min(start + _ROWS, n))
            batch = simulate_batch(index, seed, config, gratings=False)
            wavelength = np.broadcast_to(batch.prism_wavelength, batch.prism_flux.shape)
            columns = {
                "object_id": [f"{name}_{i}" for i, name in zip(index, batch.unique_id, strict=True)],
                "ra": batch.ra,
                "dec": batch.dec,
                "z_true": batch.redshift,
                "wavelength": list(wavelength),
                "flux": list((batch.prism_flux * 1e20).astype(np.float32)),
                "error": list((batch.prism_error * 1e20).astype(np.float32)),
                "mask": list(batch.prism_mask),
            }
            arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
            writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
            advance(index.size)
