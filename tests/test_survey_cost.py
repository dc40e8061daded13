import re
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq

from benchmarks.survey import arithmetic, serial_parts, write_simulated_catalogue
from benchmarks.survey_measurement import MeasuredCosts, MemorySample, MemoryWatch
from data_pipeline.instrument import PRISM, load_instrument
from kspecsr.surveys.engine import ClusterOptions, tensorflow_threads

COSTS = MeasuredCosts(
    core_seconds=0.036,
    start_up=20.0,
    partition_size=1000,
    table_bytes={"lines": 2000.0, "failures": 10.0, "objects": 240.0, "spectra": 50_000.0},
    plan=1e-5,
    scheduling=2e-3,
    checking=1e-3,
    hats=1e-4,
)


def test_the_arithmetic_adds_up():
    text = arithmetic(COSTS, 10_000_000, 1000)
    assert "10,000,000 x 36.00 ms = 100 core-hours; on 1,000 cores 6 min" in text
    assert "partitions of 1000: 10,000; files: 30,000, with spectra 40,000" in text
    assert (
        "lines: 10,000,000 x 2,000 bytes = 20 GB" in text
        and "spectra: 10,000,000 x 50,000 bytes = 500 GB" in text
    )
    assert "all tables without spectra: 22.5 GB" in text
    assert "1.39 GB per second" in text  # 500 GB in 360 s
    # 1,000 s of HATS against 360,000 core s
    assert text.endswith("first to give way: the HATS catalogue, from 360 cores on")


def test_what_gives_way_first_is_what_takes_longest():
    slow = replace(COSTS, scheduling=1.0)
    assert max(serial_parts(slow, 10**7), key=serial_parts(slow, 10**7).get) == "the scheduler"
    assert "first to give way: the scheduler, from 36 cores on" in arithmetic(slow, 10**7, 10)


def test_threads_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert [ClusterOptions(workers=n).threads_each for n in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]
    assert ClusterOptions(workers=2, threads=3).threads_each == 3


def test_on_a_cluster_elsewhere_the_threads_are_those_of_its_workers():
    class Elsewhere:
        def nthreads(self):
            return {"tcp://a:1": 4, "tcp://b:1": 2}

    options = ClusterOptions(scheduler="tcp://somewhere:1")
    assert tensorflow_threads(Elsewhere(), options) == 2
    assert tensorflow_threads(Elsewhere(), replace(options, threads=3)) == 3
    assert tensorflow_threads(Elsewhere(), ClusterOptions(threads=5)) == 5


def test_memory_is_watched():
    with MemoryWatch(0.01) as watch:
        held = np.ones(20_000_000)
        time.sleep(0.2)
    assert len(watch.samples) > 5
    assert max(one.client for one in watch.samples) > held.nbytes
    watch.samples = [MemorySample(float(t), 10 * t, t) for t in range(9)]
    assert watch.quarters(0.0, 8.0) == [(20, 2), (40, 4), (60, 6), (80, 8)]


def test_the_simulated_catalogue_is_one_that_a_survey_reads(tmp_path):
    counted = []
    write_simulated_catalogue(tmp_path / "c.parquet", 300, counted.append)
    assert sum(counted) == 300
    table = pq.read_table(tmp_path / "c.parquet")
    assert len(set(table["object_id"].to_pylist())) == table.num_rows == 300
    np.testing.assert_array_equal(table["wavelength"][7].as_py(), load_instrument(PRISM).wavelength)
    unit = table.schema.field("flux").metadata[b"unit"].decode()
    assert re.fullmatch(r"1e-20 erg/\(s cm2 Angstrom\)", unit)
    good = ~np.array(table["mask"][7].as_py())
    assert 0.01 < np.median(np.array(table["error"][7].as_py())[good]) < 100  # [1e-20 erg/s/cm2/A]
