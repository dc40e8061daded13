"""The shipped table of ultracool dwarfs, made from model spectra seen through the NIRSpec prism."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from data_pipeline.simulation.dwarfs import DwarfTable

_FAINTEST = 1e-7  # of the maximum: what is fainter does not matter, and its logarithm would
_ATMOSPHERE = ("LOGG", "METALLICITY", "LOGKZZ")


def dwarf_table(path: Path) -> DwarfTable:
    """The table of a FITS file.

    Args:
        path: with the extensions WAVELENGTH [um] and MODELS (TEFF [K], LOGG, METALLICITY, LOGKZZ, FLUX),
            every temperature with the same number of atmospheres.

    Raises:
        ValueError: for a file that holds something else, naming it.
    """
    try:
        with fits.open(path) as file:
            header, wavelength = file[0].header, file["WAVELENGTH"].data.astype(float)
            models = {
                name: file["MODELS"].data[name].astype(float) for name in ("TEFF", "FLUX", *_ATMOSPHERE)
            }
    except KeyError as error:
        raise ValueError(
            f"{path}: {error.args[0]} expected extensions WAVELENGTH and MODELS with the columns TEFF, FLUX, "
            f"{', '.join(_ATMOSPHERE)}"
        ) from error
    order = np.lexsort([*(models[name] for name in reversed(_ATMOSPHERE)), models["TEFF"]])
    temperature, count = np.unique(models["TEFF"], return_counts=True)
    if np.unique(count).size != 1:
        raise ValueError(f"{path}: expected as many models at each temperature, found {count.tolist()}")
    flux = models["FLUX"][order]
    flux = np.maximum(flux / flux.max(axis=1, keepdims=True), _FAINTEST)
    return DwarfTable(
        wavelength=wavelength,
        temperature=temperature,
        atmosphere=np.stack([models[name] for name in _ATMOSPHERE], axis=1)[order[: count[0]]],
        log_flux=np.log10(flux).reshape(temperature.size, count[0], -1),
        header={
            "title": "Ultracool dwarfs through the NIRSpec prism, F_lambda over its maximum",
            "source": str(header.get("SOURCE", "")),
            "licence": str(header.get("LICENSE", "")),
            "citations": [
                "Phillips et al. 2020, A&A 637, A38 (ATMO 2020)",
                "Meisner et al. 2023, AJ 166, 57 (ATMO 2020++)",
                "Burgasser et al., github.com/aburgasser/ucdmcmc",
            ],
            "made by": "python -m benchmarks ultracool-dwarfs",
        },
    )
