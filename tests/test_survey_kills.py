import os
import signal

import pytest

from model_sample import tiny_model
from survey_sample import Cluster, contents, rows, start_survey, wait_for_parts, write_catalogue

pytest.importorskip("distributed", reason="the extra 'survey' is not installed")

pytestmark = pytest.mark.long
LONG = 600  # [s], of a crowded machine
SPECTRA, PARTITION = 160, 10
PARTS = SPECTRA // PARTITION


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    tiny_model(folder / "model")
    write_catalogue(folder / "catalogue.parquet", SPECTRA)
    return folder


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    yield made
    made.stop()


def run(place, cluster, name):
    arguments = [place / "catalogue.parquet", "--output", place / name, "--model", place / "model"]
    arguments += ["--partition-size", PARTITION, "--scheduler", cluster.address, "--redshift", "z_spec"]
    return start_survey(*arguments)


@pytest.fixture(scope="module")
def undisturbed(place, cluster):
    process = run(place, cluster, "undisturbed")
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, out + err
    found = contents(place / "undisturbed")
    assert len(found) == 3 * PARTS
    return found


def finish(place, cluster, name, there_least):
    """The same command again; what it found done, and its output."""
    process = run(place, cluster, name)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, out + err
    done = int(out.split(" inputs were done already")[0].rsplit(" ", 1)[1])
    assert there_least * PARTITION <= done < SPECTRA, out
    return out


def test_nothing_is_lost_or_doubled_undisturbed(place, undisturbed):
    objects, failures = rows(place / "undisturbed", "objects"), rows(place / "undisturbed", "failures")
    assert sorted(row["input_row"] for row in objects + failures) == list(range(SPECTRA))
    assert {row["z_given"] for row in objects} == {True, False}
    assert rows(place / "undisturbed", "lines")


def test_a_killed_client_is_made_up_for(place, cluster, undisturbed):
    process = run(place, cluster, "client")
    there = wait_for_parts(place / "client", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=LONG)
    assert process.returncode == -signal.SIGKILL and there < PARTS
    finish(place, cluster, "client", there)
    assert contents(place / "client") == undisturbed


def test_a_killed_worker_is_made_up_for(place, cluster, undisturbed):
    process = run(place, cluster, "worker")
    there = wait_for_parts(place / "worker", process)
    cluster.kill_worker()
    assert there < PARTS
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, out + err
    assert contents(place / "worker") == undisturbed


def test_a_killed_scheduler_is_made_up_for(place, cluster, undisturbed):
    process = run(place, cluster, "scheduler")
    there = wait_for_parts(place / "scheduler", process)
    os.kill(cluster.scheduler.pid, signal.SIGKILL)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 1 and there < PARTS
    assert "ended early: the scheduler is gone" in err and "rerun the same command to resume" in err
    assert "Traceback" not in err
    cluster.start()
    finish(place, cluster, "scheduler", there)
    assert contents(place / "scheduler") == undisturbed
