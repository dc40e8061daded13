"""Work over processes: order, bounded look-ahead, death of a worker, interruption."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.workers import WorkerError, worker_pool

ROOT = Path(__file__).resolve().parents[1]


def slow_square(number):
    time.sleep(0.02 * (3 - number % 3))  # later ones are often ready first
    return number**2


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep_long(number):
    time.sleep(120 if number else 0)
    return number


def refuse(number):
    if number == 2:
        raise ValueError(f"no {number} wanted")
    return number


def settings(_):
    return os.environ.get("OPENBLAS_NUM_THREADS"), os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_few_at_a_time(workers):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    with worker_pool(workers) as pool:
        results = iter(pool(slow_square, items()))
        assert next(results) == 0
        assert len(taken) <= 4 * workers
        assert list(results) == [number**2 for number in range(1, 40)]


def test_workers_are_other_processes_with_one_thread_each(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with worker_pool(2) as pool:
        threads, pids = zip(*pool(settings, range(4)), strict=True)
    assert set(threads) == {"1"}
    assert os.getpid() not in pids
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_one_worker_can_work_in_the_background_with_a_look_ahead_of_its_own():
    taken = []
    with worker_pool(1, background=True, ahead=3) as pool:
        results = iter(pool(settings, (taken.append(number) for number in range(9))))
        assert next(results)[1] != os.getpid()
        assert len(taken) == 3
        assert len(list(results)) == 8


def test_a_dead_worker_is_an_error_not_a_hang():
    with (
        pytest.raises(WorkerError, match=r"a worker process died .* use fewer --workers"),
        worker_pool(2) as pool,
    ):
        list(pool(die, range(20)))
    assert not multiprocessing.active_children()


def test_an_exception_of_a_task_reaches_the_caller_and_ends_the_workers():
    with pytest.raises(ValueError, match="no 2 wanted"), worker_pool(2) as pool:
        list(pool(refuse, range(20)))
    assert not multiprocessing.active_children()


def test_an_interrupt_waits_for_no_task():
    with pytest.raises(KeyboardInterrupt), worker_pool(2) as pool:
        for _ in pool(sleep_long, range(20)):
            start = time.monotonic()
            raise KeyboardInterrupt
    assert time.monotonic() - start < 20
    assert not multiprocessing.active_children()


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of processes from /proc")
def test_no_worker_outlives_a_killed_command():
    code = (
        "from test_workers import settings, sleep_long\n"
        "from data_pipeline.workers import worker_pool\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(2) as pool:\n"
        "        print(*{pid for _, pid in pool(settings, range(4))}, flush=True)\n"
        "        list(pool(sleep_long, range(1, 5)))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    ) as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    assert pids
    deadline = time.monotonic() + 20
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, pids))
