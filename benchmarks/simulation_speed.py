"""Speed and memory of the arrays, measured in fresh processes."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.simulation.arrays import simulate_batch
from data_pipeline.simulation.config import SimulationConfig

_BATCH = 64


@dataclass(frozen=True)
class Speed:
    """What `measure_speed` found.

    Attributes:
        rate: galaxies per second of all processes together, start-up left out.
        per_core: galaxies per second of processor time, which other programs disturb less.
        seconds: wall time of the simulation.
        start_up: seconds until the slowest process had its line-spread operators.
        peak_memory: largest resident size of a process [MB].
    """

    rate: float
    per_core: float
    seconds: float
    start_up: float
    peak_memory: float


def measure_speed(n: int, seed: int, config: SimulationConfig, workers: int, gratings: bool = True) -> Speed:
    """Simulates ``n`` galaxies, shared between ``workers`` processes.

    Args:
        n: number of galaxies.
        seed: of the simulation.
        config: population and nuisances.
        workers: processes.
        gratings: simulate the gratings too.
    """
    begin = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers + 1)
    with context.Manager() as manager:
        used = manager.list()
        processes = [
            context.Process(
                target=_simulate_share,
                args=(n, seed, config, rank, workers, gratings, ready, used),
            )
            for rank in range(workers)
        ]
        for process in processes:
            process.start()
        ready.wait()
        started = time.perf_counter()
        for process in processes:
            process.join()
        seconds = time.perf_counter() - started
        failed = [process.exitcode for process in processes if process.exitcode]
        if failed:
            raise RuntimeError(f"{len(failed)} of {workers} processes failed; their messages stand above")
        memory, cpu = zip(*used, strict=True)
        return Speed(n / seconds, n / sum(cpu), seconds, started - begin, max(memory))


def _simulate_share(
    n: int, seed: int, config: SimulationConfig, rank: int, workers: int, gratings: bool, ready, used
) -> None:
    for start in range(0, 4 * _BATCH, _BATCH):  # builds the line-spread operators
        simulate_batch(np.arange(start, start + _BATCH), seed, config, gratings=gratings)
    ready.wait()
    begin = time.process_time()
    for start in range(rank * _BATCH, n, workers * _BATCH):
        simulate_batch(np.arange(start, min(start + _BATCH, n)), seed, config, gratings=gratings)
    used.append((peak_memory(), time.process_time() - begin))


def peak_memory() -> float:
    """Largest resident size of this process [MB].

    On Linux a started program inherits the peak that `resource` knows; the kernel has its own figure.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
