"""The arrays run where only NumPy and SciPy are installed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import sys
for name in ("astropy", "tensorflow", "keras", "specutils", "wrapt", "matplotlib", "tqdm"):
    sys.modules[name] = None  # an import of it raises, find_spec says that it is not there
import numpy as np
from data_pipeline.simulation import simulate_batches
for batch in simulate_batches(4, seed=1):
    assert batch.noise_free.shape == (4, 6074) and np.isfinite(batch.noise_free).all()
    print(len(batch), sorted(batch.gratings))
"""


def test_four_galaxies_without_astropy_tensorflow_specutils_and_wrapt():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 ['nirspec-g140m', 'nirspec-g235m', 'nirspec-g395m']")
