"""A survey of simulated spectra end to end: how fast, how much memory, and what larger ones cost."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.survey_measurement import (
    MeasuredCosts,
    measure_costs,
    measure_survey,
    network_speed,
    side_by_side,
)
from data_pipeline.simulation import SimulationConfig, simulate_batch
from data_pipeline.writers.atomic import replacing
from kspecsr.survey import main as survey_command
from kspecsr.surveys.engine import ClusterOptions
from kspecsr.surveys.inputs import prepare

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


def benchmark(args: argparse.Namespace) -> None:
    """Measures and prints."""
    args.output.mkdir(parents=True, exist_ok=True)
    catalogue = args.output / f"simulated-{args.n}.parquet"
    if not catalogue.exists():
        with tqdm(total=args.n, desc="simulate", unit="spectrum", delay=2) as bar:
            write_simulated_catalogue(catalogue, args.n, bar.update)
    folder = args.output / "survey"
    shutil.rmtree(folder, ignore_errors=True)
    words = [str(catalogue), "--output", str(folder), "--model", args.model]
    words += ["--partition-size", str(args.partition_size), *(["--spectra"] if args.spectra else [])]
    settings, model = prepare(survey_command.parser().parse_args(words))
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


def arithmetic(costs: MeasuredCosts, n: int, cores: int) -> str:
    """What ``n`` spectra cost, line by line with the figures that go in.

    Args:
        costs: measured.
        n: spectra.
        cores: of the cluster, one worker each.
    """
    partitions = -(-n // costs.partition_size)
    work = n * costs.core_seconds
    wall = work / cores
    tables = [name for name in costs.table_bytes if name != "spectra"]
    lines = [
        f"{n:,} spectra, from the figures above:",
        f"  networks and all: {n:,} x {1e3 * costs.core_seconds:.2f} ms = {work / 3600:,.0f} core-hours; on "
        f"{cores:,} cores {_duration(wall)}",
        f"  start-up of workers: {cores:,} x {costs.start_up:.0f} s = "
        f"{cores * costs.start_up / 3600:,.1f} core-hours, {_duration(costs.start_up)} of the run",
        f"  partitions of {costs.partition_size}: {partitions:,}; files: {partitions * 3:,}, with spectra "
        f"{partitions * 4:,}",
    ]
    for name, size in costs.table_bytes.items():
        lines.append(f"  {name}: {n:,} x {size:,.0f} bytes = {_size(n * size)}")
    small = n * sum(costs.table_bytes[name] for name in tables)
    lines.append(f"  all tables without spectra: {_size(small)}")
    if "spectra" in costs.table_bytes:
        rate = n * costs.table_bytes["spectra"] / wall
        lines.append(f"  spectra on {cores:,} cores: the file system has to take {_size(rate)} per second")
    serial = serial_parts(costs, n)
    lines.append(
        f"parts that one process does, and the cores beyond which they outlast the {work:,.0f} core s:"
    )
    for name, seconds in serial.items():
        lines.append(f"  {name}: {_duration(seconds)}; {work / seconds:,.0f} cores")
    name = max(serial, key=serial.__getitem__)
    lines.append(f"first to give way: {name}, from {work / serial[name]:,.0f} cores on")
    return "\n".join(lines)


def serial_parts(costs: MeasuredCosts, n: int) -> dict[str, float]:
    """Seconds of what does not get shorter with more workers."""
    partitions = -(-n // costs.partition_size)
    return {
        "listing and hashing the inputs": n * costs.plan,
        "the scheduler": partitions * costs.scheduling,
        "looking what is done": partitions * costs.checking,
        "the HATS catalogue": n * costs.hats,
    }


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
