"""Sky groups: spectra of the same galaxy, whatever its ids, stay on one side of a split."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

ARCSEC = np.pi / 180.0 / 3600.0
SPLITS = ("train", "validation", "test")


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(n, 3) Cartesian directions of positions [deg]."""
    ra, dec = np.deg2rad(np.asarray(ra, np.float64)), np.deg2rad(np.asarray(dec, np.float64))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def chord(separation_arcsec: float) -> float:
    """Length of the chord that spans an angle."""
    return float(2.0 * np.sin(0.5 * separation_arcsec * ARCSEC))


def group_by_position(ra: np.ndarray, dec: np.ndarray, separation_arcsec: float = 0.3) -> np.ndarray:
    """Friends-of-friends groups on the sky.

    Positions (n,) are in degrees; objects closer than ``separation_arcsec`` are the same galaxy.

    Returns:
        (n,) int group numbers from 0. An object without a position is a group of its own.

    Raises:
        ValueError: for a separation that is not positive.
    """
    if not separation_arcsec > 0:
        raise ValueError(f"expected a positive separation, got {separation_arcsec} arcsec")
    placed = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    pairs = np.zeros((0, 2), int)
    if placed.size:
        # As directions, not as RA and Dec: near a pole and across 0 h degrees are no distances.
        tree = cKDTree(unit_vectors(np.asarray(ra)[placed], np.asarray(dec)[placed]))
        pairs = placed[tree.query_pairs(chord(separation_arcsec), output_type="ndarray")]
    n = len(ra)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


@dataclass(frozen=True)
class SplitConfig:
    """Division of sky groups into training, validation and test part.

    Attributes:
        test_fraction: share of the groups held out.
        validation_fraction: share of the rest used for validation.
        separation_arcsec: radius of a sky group.
        cell_arcsec: size of the sky cells that are held out as a whole.
        seed: changes which groups are held out.
    """

    test_fraction: float = 0.2
    validation_fraction: float = 0.1
    separation_arcsec: float = 0.3
    cell_arcsec: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("test_fraction", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"split: expected {name} in [0, 1), got {getattr(self, name)}")
        for name in ("separation_arcsec", "cell_arcsec"):
            if not getattr(self, name) > 0:
                raise ValueError(f"split: expected {name} > 0, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"split: expected a seed of 0 or more, got {self.seed}")


def sky_cell(ra: float, dec: float, size_arcsec: float) -> str:
    """Name of the cell of the sky that holds a position [deg]; empty without a position.

    Cells are strips in declination cut into pieces of equal width on the sky.
    """
    if not (np.isfinite(ra) and np.isfinite(dec)):
        return ""
    size = size_arcsec / 3600.0
    row = int(np.floor((dec + 90.0) / size))
    # By the strip's own middle, so that all of a strip has one width of cell.
    width = size / max(np.cos(np.deg2rad((row + 0.5) * size - 90.0)), 1e-6)
    return f"{row:08d}.{int(np.floor((ra % 360.0) / width)):08d}"


def assign_splits(
    unique_ids: Sequence[str], ra: np.ndarray, dec: np.ndarray, groups: np.ndarray, config: SplitConfig
) -> list[str]:
    """Split of each object: ``train``, ``validation`` or ``test``.

    A group's place is a hash of the seed and of the first sky cell that it touches (of its first id where no
    position is known). It depends neither on the order of the catalogue nor on which ids, or how many
    observations, a galaxy has: what was once trained on is held out later only if a new observation links it
    to a neighbour in an earlier cell. Positions (n,) are in degrees, NaN where unknown; groups (n,) as
    `group_by_position` gives them.
    """
    keys: dict[int, str] = {}
    for name, x, y, group in zip(unique_ids, ra, dec, groups, strict=True):
        key = sky_cell(x, y, config.cell_arcsec) or f"id {name}"
        keys[int(group)] = min(key, keys.get(int(group), key))
    return [split_of(keys[int(group)], config) for group in groups]


def split_of(key: str, config: SplitConfig) -> str:
    """Split of a group by its key."""
    # A hash and no random generator: a catalogue that grows moves nobody from one part to another.
    digest = hashlib.sha256(f"{config.seed}:{key}".encode()).digest()
    held_out, validation = (int.from_bytes(digest[i : i + 8], "big") / 2.0**64 for i in (0, 8))
    if held_out < config.test_fraction:
        return "test"
    return "validation" if validation < config.validation_fraction else "train"
