"""Settings that hold for every test: threads, plotting backend, random seeds, hypothesis profile."""

import os

# Before NumPy or TensorFlow is imported anywhere: each of pytest's processes keeps to one thread,
# so that `-n 2` fills two cores and no more.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import random

import numpy as np
import pytest
from hypothesis import settings

# Same examples on every run and every machine; a first call that imports something heavy is no failure.
settings.register_profile("kspecsr", deadline=None, derandomize=True, database=None)
settings.load_profile("kspecsr")

# Files that take longest are begun first, so that no process is left with one of them at the end.
_LONGEST_FIRST = (
    "test_training_stage",
    "test_serving",
    "test_training_backends",
    "test_training_resume",
    "test_training_best",
    "test_evaluation",
    "test_build",
    "test_tuning_axes",
    "test_command_lines",
    "test_speed",
    "test_demo",
    "test_tuning_command",
    "test_enhance",
    "test_baselines",
    "test_calibration",
    "test_survey",
    "test_identical_networks",
    "test_browse",
)

_approx = pytest.approx


def _approx_of_physical_size(expected, rel=None, abs=None, nan_ok=False):
    """`pytest.approx` that refuses fluxes in erg/s/cm2 without ``abs``: its own 1e-12 passes them all."""
    if abs is None:
        values = list(expected.values()) if isinstance(expected, dict) else expected
        largest = np.max(np.abs(values), initial=0.0)
        if 0 < largest < 1e-9:
            raise ValueError(
                f"pytest.approx({expected!r}) would pass anything below its default abs=1e-12; "
                "give abs=0 or divide by the unit"
            )
    return _approx(expected, rel=rel, abs=abs, nan_ok=nan_ok)


pytest.approx = _approx_of_physical_size


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Make whatever still draws from a global generator repeatable."""
    random.seed(20261122)
    np.random.seed(20261122)  # noqa: NPY002 - the legacy global generator is what third-party code draws from


@pytest.fixture
def not_compiled():
    from training_sample import untraced  # most tests need no TensorFlow

    with untraced():
        yield


def pytest_collection_modifyitems(items):
    """Order of the files; that of the tests in each stays."""
    place = {name: number for number, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
