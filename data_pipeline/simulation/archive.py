"""A simulated survey on disk: the JADES DR4 tree, its catalogue, and the truth beside it.

Needs astropy; `data_pipeline.simulation` itself does not import this module.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np

from data_pipeline.configuration import software_versions
from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.jades_names import jades_file_name
from data_pipeline.progress import Progress
from data_pipeline.simulation.arrays import SimulatedBatch, simulate_batch
from data_pipeline.simulation.catalogue import catalogue_rows
from data_pipeline.simulation.config import SimulationConfig
from data_pipeline.simulation.draws import Draws, check_seed
from data_pipeline.simulation.noise import grating_noise, released_noise
from data_pipeline.simulation.releases import RELEASES
from data_pipeline.simulation.truth import (
    CONTENT,
    FOLDER,
    TruthError,
    read_arrays,
    write_arrays,
    write_truth_chunk,
    write_truth_index,
)
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.workers import worker_pool
from data_pipeline.writers.atomic import replacing
from data_pipeline.writers.jades import write_jades_catalogue, write_jades_x1d

CATALOGUE = "Combined_DR4_external_v1.2.1.fits"
DESCRIPTION = "simulation.json"
CHUNK = 64  # observations per truth file; fixed, so that a resumed run finds the same chunks
_PROGRAMMES = {
    "goods-n": "1181",
    "goods-s-deephst": "1210",
    "goods-s-deepjwst": "1286",
    "goods-s-ultradeep": "3215",
}
_WIDE_NOISE = 1.3  # noise of the five-pixel extraction over that of three pixels
_WIDE_FLUX = 1.03  # its flux over that of three pixels


def write_archive(
    directory: str | Path,
    n: int,
    seed: int,
    config: SimulationConfig | None = None,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write ``n`` observations as a JADES DR4 tree.

    ``<field>/spectra/<filter-grating>/<tier>/hlsp_jades_...x1d.fits``, the catalogue, ``truth/`` (see
    `data_pipeline.simulation.truth`) and ``simulation.json``. An interrupted run resumes where it was; an
    archive that is complete is left alone, and what was deleted or damaged in its truth is written again. A
    longer run (larger ``n``) extends a shorter one. Returns the path of the catalogue.

    Raises:
        ValueError: if the directory holds another simulation or a damaged ``simulation.json``, for n < 1 and
            for an impossible seed.
        OSError: where the directory cannot be written, or if a worker died (`WorkerError`).
    """
    config = SimulationConfig() if config is None else config
    if n < 1 or workers < 1:
        raise ValueError(f"expected n >= 1 and workers >= 1, got n={n}, workers={workers}")
    check_seed(seed)
    root = Path(directory)
    # First: what a resumed run would mix up with another simulation must be refused before a file is written.
    _describe(root, n, seed, config)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    spectra = {path.name for path in root.glob("*/spectra/*/*/*.fits")}
    # Whole chunks: a galaxy's files and its truth are complete or made again together.
    todo = [start for start in range(0, n, CHUNK) if not _is_complete(root, start, n, spectra)]
    processes = min(workers, len(todo))
    with (
        Progress(total=n, desc="archive", unit="galaxy", disable=not progress) as bar,
        worker_pool(processes) as pool,
    ):
        bar.update(n - sum(min(CHUNK, n - start) for start in todo))
        if todo:
            bar.set_postfix_str(f"starting {processes} processes; {CHUNK} galaxies at a time")
        for count in pool(partial(_write_chunk, root, n, seed, config.to_json()), todo):
            bar.set_postfix_str("")
            bar.update(count)
    chunks = [read_arrays(_chunk_path(root, start, "rows")) for start in range(0, n, CHUNK)]
    rows = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
    write_jades_catalogue(root / CATALOGUE, rows)
    write_truth_index(root)
    return root / CATALOGUE


def _describe(root: Path, n: int, seed: int, config: SimulationConfig) -> None:
    """Write simulation.json, or check that the directory holds the same simulation."""
    path = root / DESCRIPTION
    settings = {"seed": seed, "config": json.loads(config.to_json())}
    if path.is_file():
        found = _read_description(path)
        differing = [key for key, value in settings.items() if found.get(key) != value]
        if differing:
            raise ValueError(
                f"{root} holds another simulation ({' and '.join(differing)} differ from {path}); "
                "choose an empty directory or the same settings"
            )
        if n < found["n"]:
            raise ValueError(
                f"{root} holds {found['n']} observations, more than n={n}; choose n >= {found['n']}"
            )
    elif root.is_dir() and any(root.iterdir()):
        raise ValueError(f"{root} is not empty and holds no {DESCRIPTION}; choose an empty directory")
    description = {"n": n, **settings, "versions": software_versions()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _read_description(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not isinstance(found.get("n"), int):
            raise ValueError("no number of observations")
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}), so what the folder holds is unknown; restore the file, or remove "
            "the folder and simulate again"
        ) from error
    return found


def _chunk_path(root: Path, start: int, kind: str) -> Path:
    return root / FOLDER / f"{kind}_{start // CHUNK:05d}.npz"


def _is_complete(root: Path, start: int, n: int, spectra: set[str]) -> bool:
    """Whether a chunk's truth, catalogue rows and spectra are there; what is damaged is written again."""
    truth, rows = (_chunk_path(root, start, kind) for kind in ("truth", "rows"))
    if not truth.is_file() or not rows.is_file():
        return False
    try:
        arrays = read_arrays(truth, CONTENT)  # all: one written before some label was is written again
        listed = read_arrays(rows, ("Unique_ID",))["Unique_ID"]
    except TruthError:
        return False
    if not listed.size == arrays["unique_id"].size == min(CHUNK, n - start):
        return False
    return all(
        _file_name(*str(unique_id).rsplit("_", 1), name) in spectra
        for unique_id, taken in zip(arrays["unique_id"], arrays["grating_taken"], strict=True)
        for name in _instruments(taken)
    )


def _instruments(taken: np.ndarray) -> list[str]:
    """Instruments with a spectrum of an observation: the prism, and the gratings that were taken."""
    return [PRISM, *(arm for arm, there in zip(GRATINGS, taken, strict=True) if there)]


def _file_name(tier: str, number: str | int, name: str) -> str:
    instrument = load_instrument(name)
    return jades_file_name(tier, int(number), instrument.filter, instrument.disperser)


def _write_chunk(root: Path, n: int, seed: int, config_json: str, start: int) -> int:
    config = SimulationConfig.from_json(config_json)
    batch = simulate_batch(np.arange(start, min(start + CHUNK, n)), seed, config)
    for row in range(len(batch)):
        for name in _instruments(batch.grating_taken[row]):
            spectra = _extractions(batch, seed, config, name, row)
            _write_spectrum(root, batch, spectra, name, row)
    write_arrays(_chunk_path(root, start, "rows"), catalogue_rows(batch, seed, config.population))
    write_truth_chunk(_chunk_path(root, start, "truth"), batch)
    return len(batch)


def _extractions(
    batch: SimulatedBatch, seed: int, config: SimulationConfig, name: str, row: int
) -> tuple[np.ndarray, ...]:
    """Wavelength, flux and error of three pixels, flux and error of five: a little more flux, more noise."""
    draws, nuisances = Draws(seed, batch.index[[row]], config.population.stream), config.nuisances
    if name == PRISM:
        wavelength, flux, error, _ = batch.released[row]
        sampling = RELEASES[batch.release[row]].sampling
        noise = released_noise(draws, "wide prism noise", sampling, wavelength.size)
        # absurd errors say nothing of the noise
        noise *= (batch.trouble[row] != "absurd-error") / batch.error_scale[row]
    else:
        wavelength, spectra = batch.observed[name]
        flux, error = spectra.flux[row], spectra.error[row]
        normal = draws.normal(f"wide noise {name}", wavelength.size + 1)
        noise = grating_noise(normal, nuisances.grating_correlation) / nuisances.grating_quoted_error
    # The wider extraction contains the narrow one: shared noise scales with the flux, the rest is new.
    extra = np.sqrt(_WIDE_NOISE**2 - _WIDE_FLUX**2) * nuisances.noise_scale
    wide = _WIDE_FLUX * flux + extra * noise[0] * np.nan_to_num(error)
    return wavelength, flux, error, wide, _WIDE_NOISE * error


def _write_spectrum(
    root: Path, batch: SimulatedBatch, spectra: tuple[np.ndarray, ...], name: str, row: int
) -> None:
    tier, number, instrument = batch.tier[row], int(batch.nirspec_id[row]), load_instrument(name)
    meta = SpectrumMeta(
        target=f"{number:08d}",
        source_id=str(number),
        ra=float(batch.ra[row]),
        dec=float(batch.dec[row]),
        disperser=instrument.disperser,
        filter=instrument.filter,
        tier=tier,
        field=tier[:7],
        program=_PROGRAMMES.get(tier, _PROGRAMMES.get(tier[:7], "1180")),
        exposure_time=float(batch.exposure[row]),
    )
    wavelength, *arrays = spectra
    # Only a missing flux is masked here: DR4 has pixels whose error alone is NaN.
    three, five = (
        ObservedSpectrum(wavelength, flux, error, np.isnan(flux), meta)
        for flux, error in (arrays[:2], arrays[2:])
    )
    folder = f"{instrument.filter}-{instrument.disperser}".lower()
    path = root / tier[:7] / "spectra" / folder / tier / _file_name(tier, number, name)
    write_jades_x1d(path, three, five, simulated=True)
