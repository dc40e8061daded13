"""The JADES-calibrated simulator as arrays (NumPy and SciPy only).

The archive writer lives in `data_pipeline.simulation.archive` and needs astropy; it is not imported here.
"""

from data_pipeline.simulation.arrays import SimulatedBatch, simulate_batch, simulate_batches
from data_pipeline.simulation.config import (
    KINDS,
    POPULATIONS,
    TROUBLES,
    WITHOUT_REDSHIFT,
    Nuisances,
    Population,
    SimulationConfig,
)
from data_pipeline.simulation.observation import Spectra
