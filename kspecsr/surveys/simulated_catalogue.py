"""A catalogue of simulated prism spectra as list columns, for measurements and for trying things out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.simulation import SimulationConfig, simulate_batch
from data_pipeline.writers.atomic import replacing

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
