"""The truth beside a simulated archive: files of arrays, read galaxy by galaxy. NumPy only."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from data_pipeline.instrument import GRATINGS, load_instrument
from data_pipeline.simulation.arrays import SimulatedBatch
from data_pipeline.writers.atomic import replacing

FOLDER = "truth"
INDEX = "index.json"
_LOADED_CHUNKS = 2
_SPECTRA = ("noise_free", "continuum", "noise_free_prism")
_COUNTS = ("index", "galaxy")
_NUMBERS = (
    *("redshift", "has_redshift", "second_redshift", "velocity_sigma", "broad_velocity_sigma"),
    *("wing_velocity_sigma", "wing_velocity", "size"),
    *("resolution_scale", "zero_point_shift", "error_scale"),
)
_ARRAYS = ("line_flux", "broad_line_flux", "wing_line_flux", "absorbed_line_flux", "flux_ratio")
_PER_GRATING = ("arm_scale", "grating_taken")
_VALUES = (*_COUNTS, *_NUMBERS, *_ARRAYS, *_PER_GRATING)
_TEXTS = ("unique_id", "kind", "trouble", "release", "line_names")
CONTENT = (*_TEXTS, *_VALUES, *_SPECTRA)  # arrays of a chunk


class TruthError(ValueError):
    """A file of the truth that cannot be read; the text names it and the cure."""


@dataclass(frozen=True)
class SimulatedTruth:
    """The truth of one observation, as in `SimulatedBatch`, but with values per grating by disperser.

    Attributes:
        unique_id: ``<tier>_<NIRSpec id>``.
        arm_scale: disperser (e.g. ``G140M``) to the grating's own factor on the flux.
        grating_taken: disperser to whether the grating was taken.
    """

    unique_id: str
    index: int
    galaxy: int
    kind: str
    trouble: str
    release: str
    redshift: float
    has_redshift: bool
    second_redshift: float
    noise_free: np.ndarray
    continuum: np.ndarray
    noise_free_prism: np.ndarray
    line_names: tuple[str, ...]
    line_flux: np.ndarray
    broad_line_flux: np.ndarray
    velocity_sigma: float
    broad_velocity_sigma: float
    wing_line_flux: np.ndarray
    wing_velocity_sigma: float
    wing_velocity: float
    absorbed_line_flux: np.ndarray
    size: float
    resolution_scale: float
    zero_point_shift: float
    arm_scale: dict[str, float]
    flux_ratio: np.ndarray
    error_scale: float
    grating_taken: dict[str, bool]


def write_truth_chunk(path: Path, batch: SimulatedBatch) -> None:
    """Write one chunk; spectra in single precision."""
    arrays = {name: getattr(batch, name).astype(np.float32) for name in _SPECTRA}
    arrays |= {name: getattr(batch, name) for name in _VALUES}
    arrays |= {name: np.array(getattr(batch, name)) for name in _TEXTS}
    write_arrays(path, arrays)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a file of arrays under a temporary name and rename it."""
    # NumPy would add .npz to the temporary name, so it gets the open file
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def read_arrays(path: Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a file in ``truth/``; all of them without ``names``.

    Raises:
        TruthError: if the file is missing, damaged or lacks one of them.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:
            return {name: arrays[name] for name in (arrays.files if names is None else names)}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> TruthError:
    return TruthError(
        f"{path} is missing or damaged ({why}); the `kspecsr data simulate` command that wrote "
        "the archive, given again, writes what is missing (its settings are in simulation.json)"
    )


def write_truth_index(archive: Path) -> int:
    """Write ``index.json`` from the chunks in the archive; return the number of observations."""
    folder = archive / FOLDER
    chunks = {
        path.name: [str(name) for name in read_arrays(path, ("unique_id",))["unique_id"]]
        # From the files and not from memory: an archive may be written by several runs.
        for path in sorted(folder.glob("truth_*.npz"))
    }
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"chunks": chunks}), encoding="utf-8")
    return sum(len(names) for names in chunks.values())


class TruthReader:
    """Reader of the truth of a simulated archive by catalogue id; at most two chunks are in memory.

    Args:
        archive: the archive's root.

    Raises:
        FileNotFoundError: if the archive has no truth.
        TruthError: if its index is damaged.
    """

    def __init__(self, archive: str | Path):
        self.folder = Path(archive) / FOLDER
        index = self.folder / INDEX
        if not index.is_file():
            raise FileNotFoundError(
                f"{index} not found: {archive} is no finished simulated archive. "
                "Write one with `kspecsr data simulate --archive DIR --n N --seed S`."
            )
        try:
            chunks = json.loads(index.read_text(encoding="utf-8"))["chunks"]
            self._place = {
                name: (chunk, row) for chunk, names in chunks.items() for row, name in enumerate(names)
            }
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _damaged(index, error) from error
        self._chunk = lru_cache(maxsize=_LOADED_CHUNKS)(self._load)

    def __contains__(self, unique_id: object) -> bool:
        return unique_id in self._place

    def __len__(self) -> int:
        return len(self._place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def get(self, unique_id: str) -> SimulatedTruth:
        """Truth of one observation.

        Raises:
            KeyError: for an id that the archive does not hold.
            TruthError: if its file is damaged.
        """
        if unique_id not in self._place:
            example = next(iter(self), "none")
            raise KeyError(
                f"{unique_id!r} is not in {self.folder}; it holds {len(self)} ids such as {example}"
            )
        chunk, row = self._place[unique_id]
        arrays = self._chunk(chunk)
        dispersers = [load_instrument(name).disperser for name in GRATINGS]
        return SimulatedTruth(
            unique_id=unique_id,
            **{name: str(arrays[name][row]) for name in ("kind", "trouble", "release")},
            line_names=tuple(arrays["line_names"].tolist()),
            **{name: arrays[name][row].astype(np.float64) for name in _SPECTRA},
            **{name: arrays[name][row].item() for name in (*_COUNTS, *_NUMBERS)},
            **{name: arrays[name][row] for name in _ARRAYS},
            **{name: dict(zip(dispersers, arrays[name][row].tolist(), strict=True)) for name in _PER_GRATING},
        )

    def _load(self, chunk: str) -> dict[str, np.ndarray]:
        path = self.folder / chunk
        arrays = read_arrays(path)
        listed = [unique_id for unique_id, (name, _) in self._place.items() if name == chunk]
        # A file of another archive or version has the same name; its rows would be those of other galaxies.
        lacking = set(CONTENT) - set(arrays)
        if lacking or arrays["unique_id"].tolist() != listed:
            raise _damaged(path, f"it differs from {INDEX}")
        return arrays
