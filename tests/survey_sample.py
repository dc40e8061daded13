"""Catalogues, a tiny model folder, and Dask processes that can be killed, for the tests of surveys."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.simulation import SimulationConfig, simulate_batch

ROOT = Path(__file__).resolve().parents[1]
UNITS = {"wavelength": "um", "flux": "1e-20 erg/(s cm2 Angstrom)", "error": "1e-20 erg/(s cm2 Angstrom)"}


def with_units(table, units=UNITS):
    """A table with units in its fields' metadata."""
    fields = [f.with_metadata({"unit": units[f.name]}) if f.name in units else f for f in table.schema]
    return table.cast(pa.schema(fields))


def catalogue_table(n, seed=5):
    """Simulated prism spectra as list columns; every other redshift is known, the others are -1."""
    batch = simulate_batch(np.arange(n), seed, SimulationConfig("survey"), gratings=False)

    def lists(values, kind):
        return pa.array(list(values), pa.list_(kind))

    wavelength = np.broadcast_to(batch.prism_wavelength, batch.prism_flux.shape)
    return pa.table(
        {
            "object_id": list(batch.unique_id),
            "ra": batch.ra,
            "dec": batch.dec,
            "z_spec": np.where(np.arange(n) % 2, np.nan_to_num(batch.redshift, nan=-1.0), -1.0),
            "wavelength": lists(wavelength, pa.float64()),
            "flux": lists(batch.prism_flux * 1e20, pa.float64()),
            "error": lists(batch.prism_error * 1e20, pa.float64()),
            "mask": lists(batch.prism_mask, pa.bool_()),
        }
    )


def write_catalogue(path, n):
    """The same as a Parquet file of several row groups."""
    pq.write_table(with_units(catalogue_table(n)), path, row_group_size=17)
    return path


def contents(folder):
    """Bytes of every file of every table."""
    tables = ("objects", "lines", "ratios", "failures", "spectra")
    paths = [path for name in tables for path in (folder / name).glob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def rows(folder, table):
    """A table as a list of dicts."""
    return [
        row for path in sorted((folder / table).glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def settings_of(folder):
    """What the manifest states."""
    return json.loads((folder / "survey.json").read_text())["settings"]


def _environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


class Cluster:
    """A Dask scheduler and one worker with its nanny, as processes of their own."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self.start()

    def _run(self, *arguments):
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(), **quiet)
        self.processes.append(process)
        return process

    def start(self):
        """Scheduler and worker; both anew after one was lost."""
        self.stop()
        self.scheduler = self._run("scheduler", "--host", "127.0.0.1", "--port", str(self.port))
        self.worker = self._run("worker", self.address, "--nthreads", "1", "--death-timeout", "300")

    def kill_worker(self):
        """SIGKILL to the process that computes; its nanny starts another."""
        children = psutil.Process(self.worker.pid).children(recursive=True)
        biggest = max(children, key=lambda process: process.memory_info().rss)
        biggest.send_signal(signal.SIGKILL)

    def stop(self):
        """Ends every process that was started here."""
        for process in self.processes:
            if process.poll() is None:
                children = psutil.Process(process.pid).children(recursive=True)
                process.kill()
                for child in children:
                    if child.is_running():
                        child.kill()
            process.wait()
        self.processes = []


def start_survey(*arguments):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "kspecsr.survey", *map(str, arguments), "--quiet"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=_environment(), **pipes)


def wait_for_parts(folder, process, least=1, seconds=400.0):
    """Waits until partitions are there; the run must still be under way."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = len(list((folder / "objects").glob("part-*.parquet"))) if folder.exists() else 0
        if found >= least:
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f"no partition after {seconds:g} s")
