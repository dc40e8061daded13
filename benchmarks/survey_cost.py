"""From measured figures to what a survey of any size costs, and which part gives way first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MeasuredCosts:
    """What one machine was seen to need.

    Attributes:
        core_seconds: of a worker core per spectrum, all included.
        start_up: of a worker, until its first partition is under way [core s].
        partition_size: spectra per partition.
        table_bytes: table to bytes per spectrum.
        plan: per input, listing and hashing [s]; one process.
        scheduling: per partition, with nothing to do in it [s]; one scheduler.
        checking: per partition, whether it is done [s]; the client.
        hats: per object, for the HATS catalogue [s]; one process.
    """

    core_seconds: float
    start_up: float
    partition_size: int
    table_bytes: Mapping[str, float]
    plan: float
    scheduling: float
    checking: float
    hats: float


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
