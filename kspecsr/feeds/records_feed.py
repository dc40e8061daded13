"""Training examples from a record directory."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.lines import LISTS, list_of, load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records import Manifest, iterate
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.simulation.noise import grating_line_error
from data_pipeline.simulation.survey import load_tiers
from kspecsr.feeds.example import Batch, Feed, Teacher
from kspecsr.feeds.simulated import DETECTABLE

FIELDS = (
    "prism_flux",
    "prism_error",
    "prism_mask",
    "grating_flux",
    "grating_error",
    "grating_mask",
    "noise_free",
    "has_noise_free",
    "line_flux",
    "line_flux_error",
    "line_flux_known",
    "redshift",
    "realisation",
    "tier",
)


def recorded_examples(
    rows: Sequence[Mapping[str, Any]], grid: UnifiedGrid, noise_free_targets: bool = True
) -> Batch:
    """Turn rows of records, with `FIELDS`, into training examples (see `example_shapes`).

    The target is the noise-free truth where it is recorded and ``noise_free_targets`` asks for it, otherwise
    the gratings with their errors. Continua are not recorded. No redshift is given as input.
    """
    stacked = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in FIELDS if name != "tier"}
    bad = stacked["prism_mask"] | ~(stacked["prism_error"] > 0) | ~np.isfinite(stacked["prism_flux"])
    redshift = stacked["redshift"].astype(np.float32)
    return {
        # Finite numbers under the mask: NaN times 0 is NaN, and one would spoil the gradients of the whole
        # batch.
        "prism_flux": np.where(bad, np.float32(0.0), stacked["prism_flux"]),
        "prism_error": np.where(bad, np.float32(1.0), stacked["prism_error"]),
        "prism_mask": bad,
        "redshift": np.full_like(redshift, np.nan),
        **_targets(stacked, noise_free_targets),
        "target_continuum": np.zeros((len(rows), grid.size), np.float32),
        "continuum_known": np.zeros(len(rows), bool),
        **_lines(stacked, [row["tier"] for row in rows], grid),
        "true_redshift": redshift,
        # not recorded
        "second_redshift": np.full_like(redshift, np.nan),
        "object_class": np.full_like(redshift, -1.0),
    }


def _targets(stacked: Mapping[str, np.ndarray], noise_free: bool) -> Batch:
    truth = stacked["has_noise_free"][:, None] & noise_free
    flux = np.where(truth, stacked["noise_free"], stacked["grating_flux"])
    error = np.where(truth, np.float32(0.0), stacked["grating_error"])
    mask = ~truth & stacked["grating_mask"] | ~np.isfinite(flux) | ~np.isfinite(error)
    return {
        "target_flux": np.where(mask, np.float32(0.0), flux),
        "target_error": np.where(mask, np.float32(0.0), error),
        "target_mask": mask,
    }


def _lines(stacked: Mapping[str, np.ndarray], tiers: Sequence[str], grid: UnifiedGrid) -> Batch:
    flux, error = stacked["line_flux"], stacked["line_flux_error"]
    observed = list_of(flux.shape[1]).wavelength * (1.0 + stacked["redshift"][:, None])
    known = stacked["line_flux_known"] & (observed >= grid.start) & (observed <= grid.stop)
    known &= np.isfinite(flux) & np.isfinite(error)
    # A true flux has error 0, and any S/N of it would be infinite; whether a grating could show the line is
    # what the presence is trained on.
    reference = np.where(known & (error == 0), _grating_error(tiers, np.where(known, observed, 1.0)), error)
    with np.errstate(invalid="ignore"):
        detectable = known & (flux > DETECTABLE * reference)
    return {
        "line_flux": np.where(known, flux, np.float32(0.0)),
        "line_error": np.where(known, error, np.float32(0.0)),
        "line_known": known,
        "line_detectable": detectable,
        # not recorded
        "line_broad_flux": np.zeros(flux.shape, np.float32),
        "broad_velocity": np.full(len(flux), np.nan, np.float32),
    }


def _grating_error(tiers: Sequence[str], observed: np.ndarray) -> np.ndarray:
    """(b, lines) typical line errors in record units; the mean of all tiers for one that JADES lacks."""
    names = load_tiers().names
    everywhere = np.arange(len(names))
    error = np.empty(observed.shape)
    for row, tier in enumerate(tiers):
        which = np.array([names.index(tier)]) if tier in names else everywhere
        of_tiers = grating_line_error(which, np.broadcast_to(observed[row], (which.size, observed.shape[1])))
        error[row] = np.exp(np.log(of_tiers).mean(axis=0))
    return error / FLUX_UNIT_IN_RECORDS


class RecordsFeed(Feed):
    """Recorded observations, in another order in each epoch.

    Step k gets examples k B to (k + 1) B of all epochs joined end to end, so that no example is left out. The
    order depends on the seed and the epoch alone, and a feed may start at any step.

    Args:
        directory: record directory, verified on first use.
        split: name of the split, e.g. ``train``.
        batch_size: B.
        seed: seed of the order, zero or more.
        first_step: step of the first batch.
        teacher: step to the probability that an object's redshift is given; None gives none.
        grid: grid that the records must have; None for any.
        noise_free_targets: as in `FeedConfig`: False for the gratings even where the truth is recorded.
        lines: list of lines that the records must have.

    Attributes:
        grid: unified grid of the records.
        count: number of examples in the split.

    Raises:
        FileNotFoundError: without a manifest.
        ValueError: for records on another grid, with other lines, or an unknown or empty split.
        RecordIntegrityError: for damaged records.
    """

    def __init__(
        self,
        directory: str | Path,
        split: str,
        batch_size: int,
        seed: int,
        first_step: int = 0,
        teacher: Teacher | None = None,
        grid: UnifiedGrid | None = None,
        noise_free_targets: bool = True,
        lines: str = "first",
    ):
        if batch_size < 1 or first_step < 0 or seed < 0:
            raise ValueError(
                "records feed: expected batch_size >= 1, first_step >= 0 and seed >= 0, got "
                f"batch_size={batch_size}, first_step={first_step}, seed={seed}"
            )
        self.directory, self.split, self.batch_size = Path(directory), split, batch_size
        self._manifest = open_records(directory, grid, lines)
        self.count, self.grid = self._manifest.count(split), self._manifest.grid
        self._noise_free_targets = noise_free_targets
        super().__init__(self._read(first_step * batch_size), seed, first_step, teacher)
        self._epoch(0, 0)  # damage and empty splits are found now

    @property
    def description(self) -> dict:
        """Description of the examples, plain JSON values."""
        return {
            "data": "records",
            "directory": self.directory.name,
            "split": self.split,
            "examples": self.count,
            "manifest": self._manifest.hash,
            "seed": self.seed,
            "grid": asdict(self.grid),
            "noise_free_targets": self._noise_free_targets,
        }

    def _epoch(self, epoch: int, first: int) -> Iterator[dict]:
        # From the pair and not from seed + epoch: epoch 1 of seed 0 would be epoch 0 of seed 1.
        order = int(np.random.default_rng([self.seed, epoch]).integers(2**62))
        return iterate(self.directory, self.split, shuffle_seed=order, fields=FIELDS, first=first)

    def _read(self, first: int) -> Generator[Batch, None, None]:
        epoch, first = divmod(first, self.count)
        rows: list[dict] = []
        while True:
            for row in self._epoch(epoch, first):
                rows.append(row)
                # Batches run across the ends of epochs: with a batch left out per epoch, which galaxies count
                # less would depend on the batch size.
                if len(rows) == self.batch_size:
                    yield recorded_examples(rows, self.grid, self._noise_free_targets)
                    rows = []
            epoch, first = epoch + 1, 0


def open_records(directory: str | Path, grid: UnifiedGrid | None, lines: str = "first") -> Manifest:
    """Read a record directory's manifest; checks that a model on ``grid`` with these lines can use it.

    Raises:
        FileNotFoundError: without a manifest.
        ValueError: for another grid or other lines, naming both.
    """
    manifest = Manifest.read(directory)
    if grid is not None and manifest.grid != grid:
        raise ValueError(
            f"{directory}: its records are on {_text(manifest.grid)}, but the model is on {_text(grid)}; "
            "build records on the model's grid, or configure the model for theirs"
        )
    names = load_lines(lines).names
    if manifest.line_names != names:
        held = [name for name in LISTS if load_lines(name).names == manifest.line_names]
        what = f"the list {held[0]!r}" if held else f"{len(manifest.line_names)} lines of no list"
        raise ValueError(
            f"{directory}: its records hold {what}, but the model measures the list {lines!r} "
            f"({len(names)} lines); build records with these lines, or give the model model.lines of theirs"
        )
    return manifest


def _text(grid: UnifiedGrid) -> str:
    return f"the grid {grid.start:g}-{grid.stop:g} um at lambda/dlambda = {grid.sampling:g}"


def recorded_validation(
    directory: str | Path,
    n: int,
    grid: UnifiedGrid | None = None,
    split: str = "validation",
    noise_free_targets: bool = True,
    lines: str = "first",
) -> Batch:
    """Read the first ``n`` observations of a split, or all if there are fewer, without augmented copies.

    Args:
        directory: record directory.
        n: number of observations, one or more.
        grid: as in `RecordsFeed`.
        split: e.g. ``validation``.
        noise_free_targets: as in `RecordsFeed`.
        lines: as in `RecordsFeed`.

    Raises:
        ValueError: as `RecordsFeed`, and for a split without any original.
    """
    if n < 1:
        raise ValueError(f"validation: expected one object or more, got {n}")
    manifest = open_records(directory, grid, lines)
    rows = []
    for row in iterate(directory, split, fields=FIELDS):
        # Copies of one galaxy would count it several times, at signal-to-noise ratios that nobody observed.
        if row["realisation"] == 0:
            rows.append(row)
        if len(rows) == n:
            break
    if not rows:
        raise ValueError(
            f"{directory}: split {split!r} holds augmented copies only, no observation to judge by"
        )
    return recorded_examples(rows, manifest.grid, noise_free_targets)
