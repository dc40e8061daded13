"""The truth beside a simulated archive: files of arrays, read galaxy by galaxy. NumPy only."""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.instrument import GRATINGS
from data_pipeline.simulation.arrays import SimulatedBatch

FOLDER = "truth"
INDEX = "index.json"
_LOADED_CHUNKS = 2
_SPECTRA = ("noise_free", "continuum", "noise_free_prism")
_VALUES = (
    "index",
    "galaxy",
    "redshift",
    "line_flux",
    "broad_line_flux",
    "velocity_sigma",
    "broad_velocity_sigma",
    "resolution_scale",
    "zero_point_shift",
    "arm_scale",
    "flux_ratio",
    "error_scale",
    "grating_taken",
)


class TruthError(ValueError):
    """A file of the truth that cannot be read; the text names it and the cure."""


@dataclass(frozen=True)
class SimulatedTruth:
    """What was put into one observation. Units as in `SimulatedBatch`.

    Attributes:
        unique_id: ``<tier>_<NIRSpec id>``.
        index: number of the observation.
        galaxy: number of the observation that first saw this galaxy.
        kind: e.g. ``star-forming``.
        redshift: true redshift; NaN for the kind ``noise``.
        noise_free: (6074,) spectrum on the unified grid at the reference instrument's resolution, on the
            prism's flux scale.
        continuum: (6074,) the same without emission lines.
        noise_free_prism: (706,) prism spectrum without noise.
        line_names: L names.
        line_flux: (L,) true total fluxes.
        broad_line_flux: (L,) the part of them in broad components.
        velocity_sigma: width of narrow lines [km/s].
        broad_velocity_sigma: width of broad lines [km/s]; 0 for none.
        resolution_scale: factor on the tabulated prism resolving power.
        zero_point_shift: prism features lie redward by this many pixels.
        arm_scale: disperser (e.g. ``G140M``) to the grating's own factor on the flux.
        flux_ratio: (3,) coefficients of log(prism / grating), see `ObservingConditions`.
        error_scale: quoted prism error over noise per detector pixel.
        grating_taken: disperser to whether the grating was taken.
    """

    unique_id: str
    index: int
    galaxy: int
    kind: str
    redshift: float
    noise_free: np.ndarray
    continuum: np.ndarray
    noise_free_prism: np.ndarray
    line_names: tuple[str, ...]
    line_flux: np.ndarray
    broad_line_flux: np.ndarray
    velocity_sigma: float
    broad_velocity_sigma: float
    resolution_scale: float
    zero_point_shift: float
    arm_scale: dict[str, float]
    flux_ratio: np.ndarray
    error_scale: float
    grating_taken: dict[str, bool]


def write_truth_chunk(path: Path, batch: SimulatedBatch) -> None:
    """Writes one chunk under a temporary name and renames it; spectra in single precision."""
    arrays = {name: getattr(batch, name).astype(np.float32) for name in _SPECTRA}
    arrays |= {name: getattr(batch, name) for name in _VALUES}
    arrays |= {
        "unique_id": np.array(batch.unique_id),
        "kind": np.array(batch.kind),
        "line_names": np.array(batch.line_names),
    }
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as stream:
        np.savez(stream, **arrays)
    temporary.replace(path)


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
        f"{path} is missing or damaged ({why}); the `python -m data_pipeline.simulate` command that wrote "
        "the archive, given again, writes what is missing (its settings are in simulation.json)"
    )


def write_truth_index(archive: Path) -> int:
    """Writes ``index.json`` from the chunks in the archive; returns the number of observations."""
    folder = archive / FOLDER
    chunks = {}
    for path in sorted(folder.glob("truth_*.npz")):
        chunks[path.name] = [str(name) for name in read_arrays(path, ("unique_id",))["unique_id"]]
    temporary = folder / f".{INDEX}.part"
    temporary.write_text(json.dumps({"chunks": chunks}), encoding="utf-8")
    temporary.replace(folder / INDEX)
    return sum(len(names) for names in chunks.values())


class TruthReader:
    """Reads the truth of a simulated archive by catalogue id; at most two chunks are in memory.

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
                "Write one with `python -m data_pipeline.simulate --archive DIR --n N --seed S`."
            )
        try:
            chunks = json.loads(index.read_text(encoding="utf-8"))["chunks"]
            self._place = {
                name: (chunk, row) for chunk, names in chunks.items() for row, name in enumerate(names)
            }
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _damaged(index, error) from error
        self._loaded: OrderedDict[str, dict[str, np.ndarray]] = OrderedDict()

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
            raise KeyError(
                f"{unique_id!r} is not in {self.folder}; it holds {len(self)} ids such as {self._example()}"
            )
        chunk, row = self._place[unique_id]
        arrays = self._chunk(chunk)
        dispersers = [name.removeprefix("nirspec-").upper() for name in GRATINGS]
        values = {name: arrays[name][row] for name in (*_VALUES, *_SPECTRA)}
        for name in _SPECTRA:
            values[name] = values[name].astype(np.float64)
        for name in ("index", "galaxy"):
            values[name] = int(values[name])
        values = {
            k: float(v) if np.ndim(v) == 0 and k not in ("index", "galaxy") else v for k, v in values.items()
        }
        values["arm_scale"] = dict(zip(dispersers, map(float, values["arm_scale"]), strict=True))
        values["grating_taken"] = dict(zip(dispersers, map(bool, values["grating_taken"]), strict=True))
        return SimulatedTruth(
            unique_id=unique_id,
            kind=str(arrays["kind"][row]),
            line_names=tuple(str(name) for name in arrays["line_names"]),
            **values,
        )

    def _chunk(self, name: str) -> dict[str, np.ndarray]:
        if name not in self._loaded:
            path = self.folder / name
            arrays = read_arrays(path)
            listed = [unique_id for unique_id, (chunk, _) in self._place.items() if chunk == name]
            lacking = {"unique_id", "kind", "line_names", *_VALUES, *_SPECTRA} - set(arrays)
            if lacking or [str(unique_id) for unique_id in arrays["unique_id"]] != listed:
                raise _damaged(path, f"it differs from {INDEX}")
            self._loaded[name] = arrays
            if len(self._loaded) > _LOADED_CHUNKS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _example(self) -> str:
        return next(iter(self._place), "none")
