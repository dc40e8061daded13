"""Matching of prism files, grating files and catalogue rows (paper section 3.1)."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from data_pipeline.catalogue import Catalogue, CatalogueError
from data_pipeline.jades_names import parse_jades_file_name
from data_pipeline.pairs.sky_groups import chord, unit_vectors
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import SpectrumError

GRATING_DISPERSERS = ("G140M", "G235M", "G395M")


@dataclass(frozen=True)
class MatchConfig:
    """Criteria for the same source and for a secure redshift.

    Attributes:
        separation_arcsec: largest separation of a match by position (paper: 0.2).
        flags: secure redshift flags.
        minimum_gratings: fewest gratings that an object needs; the rest is a gap.
    """

    separation_arcsec: float = 0.2
    flags: str = "ABC"
    minimum_gratings: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.minimum_gratings <= len(GRATING_DISPERSERS):
            raise ValueError(f"matching: expected minimum_gratings of 1, 2 or 3, got {self.minimum_gratings}")
        if not self.separation_arcsec > 0:
            raise ValueError(f"matching: expected a positive separation_arcsec, got {self.separation_arcsec}")


@dataclass(frozen=True)
class ArchiveFile:
    """One spectrum of an archive, as far as its name (or else its header) tells.

    Tier and id are empty where unknown, the tier also outside JADES, the disperser is in upper case.
    Positions [deg] are NaN for JADES files, whose id is enough.
    """

    path: str
    tier: str
    source_id: str
    disperser: str
    ra: float = float("nan")
    dec: float = float("nan")


@dataclass(frozen=True)
class Match:
    """A galaxy with its files and the catalogue's redshift; its id is the prism file's name outside JADES."""

    unique_id: str
    tier: str
    field: str
    ra: float
    dec: float
    redshift: float
    redshift_flag: str
    prism: str
    gratings: tuple[str, ...]


@dataclass(frozen=True)
class Dropped:
    """An object or file that a step did not keep; the reason is a few words, a colon and details."""

    unique_id: str
    step: str
    reason: str


class QualityError(ValueError):
    """An object that a step of the pipeline does not keep; carries the step's name."""

    def __init__(self, step: str, reason: str):
        super().__init__(reason)
        self.step = step


def scan_archive(
    directory: str | os.PathLike, progress: Callable | None = None
) -> tuple[list[ArchiveFile], list[Dropped]]:
    """All spectra below a folder; JADES names are not opened, other FITS files are.

    ``progress`` wraps the list of files, e.g. ``tqdm``.

    Raises:
        FileNotFoundError: for a folder that is not there or holds no FITS file.
    """
    top = Path(directory)
    if not top.is_dir():
        raise FileNotFoundError(f"archive {top} is not a folder; give the top of a tree of x1d files")
    paths = _fits_files(top)
    if not paths:
        raise FileNotFoundError(
            f"archive {top} holds no FITS file; expected *_x1d.fits or *.spec.fits below it"
        )
    found, dropped = [], []
    for path in progress(paths) if progress else paths:
        name = parse_jades_file_name(path.name)
        if name is not None:
            found.append(ArchiveFile(str(path), name.tier, name.source_id, name.disperser))
        elif not _is_catalogue(path.name):
            try:
                meta = read_spectrum(path).meta
            except SpectrumError as error:
                dropped.append(Dropped(str(path), "file readable", f"unreadable: {error}"))
                continue
            found.append(ArchiveFile(str(path), meta.tier, meta.source_id, meta.disperser, meta.ra, meta.dec))
    return found, dropped


def _fits_files(top: Path) -> list[Path]:
    """FITS files below a folder in order of name; links to folders are followed, each folder once."""
    found, seen = [], set()
    for folder, inner, names in os.walk(top, followlinks=True):
        # In place: os.walk then neither enters hidden folders nor goes in the order of the disk.
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if os.path.realpath(folder) in seen:
            inner.clear()
            continue
        seen.add(os.path.realpath(folder))
        found += [
            Path(folder, name) for name in names if name.endswith((".fits", ".fits.gz")) and name[0] != "."
        ]
    return sorted(found)


def _is_catalogue(name: str) -> bool:
    lower = name.lower()
    return "catalog" in lower or "combined_" in lower or "line-fluxes" in lower or "line_fluxes" in lower


def find_catalogue(directory: str | os.PathLike) -> Path:
    """The catalogue that lies in an archive.

    Raises:
        FileNotFoundError: for none or more than one, saying how to name it.
    """
    top = Path(directory)
    candidates = [p for p in _fits_files(top) if _is_catalogue(p.name)]
    if len(candidates) == 1:
        return candidates[0]
    listed = ", ".join(str(c) for c in candidates) or "none"
    raise FileNotFoundError(
        f"archive {top}: expected one catalogue, found {listed}; name it with --catalogue FILE"
    )


def match(
    files: Sequence[ArchiveFile], catalogue: Catalogue, config: MatchConfig | None = None
) -> tuple[list[Match], list[Dropped]]:
    """Join prism files, grating files and catalogue rows.

    JADES files belong together by (tier, id): ids repeat across tiers for different galaxies. What no id
    joins is joined by position, of each disperser the one within ``separation_arcsec`` whose name is most
    like the prism's. Catalogue rows are joined likewise. JADES files are opened only where their id finds
    nothing.

    Returns:
        The matches, ordered by id, and the prism files that no match was made for.
    """
    config = config or MatchConfig()
    prisms = sorted(
        (f for f in files if f.disperser == "PRISM"), key=lambda f: (f.tier, f.source_id.zfill(12), f.path)
    )
    gratings = _Gratings([f for f in files if f.disperser in GRATING_DISPERSERS], prisms, config)
    rows = _CatalogueRows(catalogue, config)
    matches, dropped, seen = [], [], set()
    for prism in prisms:
        unique_id = f"{prism.tier}_{prism.source_id}" if prism.tier else Path(prism.path).name.split(".")[0]
        try:
            # The first one in the order of paths; two files of one object would be two galaxies to the split.
            if unique_id in seen:
                raise QualityError("one prism file", f"second file of an object: {prism.path}")
            seen.add(unique_id)
            chosen = gratings.of(prism)
            row = rows.secure(unique_id, prism)
        except QualityError as error:
            dropped.append(Dropped(unique_id, error.step, str(error)))
            continue
        place = (str(catalogue.field[row]), float(catalogue.ra[row]), float(catalogue.dec[row]))
        redshift = (float(catalogue.redshift[row]), str(catalogue.redshift_flag[row]))
        paths = tuple(f.path for f in chosen)
        matches.append(Match(unique_id, prism.tier, *place, *redshift, prism.path, paths))
    return matches, dropped


def match_gratings(
    prisms: Sequence[ArchiveFile], gratings: Sequence[ArchiveFile], config: MatchConfig | None = None
) -> list[tuple[ArchiveFile, ...]]:
    """Gratings of each prism file, joined as `match` does it; none where there are none."""
    config = config or MatchConfig()
    found, known = _Gratings(gratings, prisms, config), []
    for prism in prisms:
        try:
            known.append(tuple(found.of(prism)))
        except QualityError:
            known.append(())
    return known


class _Positions:
    """Nearest-neighbour search in arcsec over positions some of which are unknown."""

    def __init__(self, ra: Sequence[float], dec: Sequence[float], separation_arcsec: float):
        self._known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        self._radius = chord(separation_arcsec)
        positions = unit_vectors(np.asarray(ra, float)[self._known], np.asarray(dec, float)[self._known])
        self._tree = cKDTree(positions) if self._known.size else None

    def around(self, ra: float, dec: float) -> list[int]:
        """Indices within the radius, nearest first."""
        if self._tree is None or not np.isfinite(ra) or not np.isfinite(dec):
            return []
        here = unit_vectors(np.array(ra), np.array(dec))
        inside = self._tree.query_ball_point(here, self._radius)
        distance = np.linalg.norm(self._tree.data[inside] - here, axis=1)
        return [int(self._known[inside[i]]) for i in np.argsort(distance, kind="stable")]


def located(file: ArchiveFile) -> ArchiveFile:
    """The file with the position that its header states; unchanged where that cannot be read."""
    if np.isfinite(file.ra):
        return file
    try:
        meta = read_spectrum(file.path).meta
    except SpectrumError:
        return file  # reading it again for the pair reports what is wrong with it
    return replace(file, ra=meta.ra, dec=meta.dec)


def _shared_start(a: str, b: str) -> int:
    """Number of leading characters that two names share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class _Gratings:
    """Gratings by (tier, id); those that no prism claims also by position, opened when first needed."""

    def __init__(self, files: Sequence[ArchiveFile], prisms: Sequence[ArchiveFile], config: MatchConfig):
        self._config = config
        self._by_id: dict[tuple[str, str], list[ArchiveFile]] = {}
        for file in files:
            self._by_id.setdefault((file.tier, file.source_id), []).append(file)
        # A grating with a prism of its own is nobody else's, however near: two sources may share a slit.
        claimed = {(prism.tier, prism.source_id) for prism in prisms if prism.tier}
        self._unclaimed = [file for file in files if (file.tier, file.source_id) not in claimed]

    @cached_property
    def _near(self) -> _Positions:
        self._unclaimed = [located(file) for file in self._unclaimed]
        ra, dec = [file.ra for file in self._unclaimed], [file.dec for file in self._unclaimed]
        return _Positions(ra, dec, self._config.separation_arcsec)

    def of(self, prism: ArchiveFile) -> list[ArchiveFile]:
        """One grating per disperser: by likeness of name, for a source observed with two masks.

        Raises:
            QualityError: for too few gratings.
        """
        own = self._by_id.get((prism.tier, prism.source_id), []) if prism.tier else []
        if not own:
            prism = located(prism)
            own = [self._unclaimed[i] for i in self._near.around(prism.ra, prism.dec)]
        by_disperser = [[file for file in own if file.disperser == name] for name in GRATING_DISPERSERS]
        chosen = [max(same, key=lambda f: _shared_start(f.path, prism.path)) for same in by_disperser if same]
        if len(chosen) < self._config.minimum_gratings:
            needed = f"{len(chosen)}, {self._config.minimum_gratings} needed"
            raise QualityError("grating matched", f"too few gratings: {needed}")
        return chosen


class _CatalogueRows:
    """Rows of a catalogue by id, otherwise by position."""

    def __init__(self, catalogue: Catalogue, config: MatchConfig):
        self._catalogue, self._flags = catalogue, config.flags
        self._has_flags = any(str(flag) for flag in catalogue.redshift_flag)
        self._by_id: dict[str, int] = {}
        for i, name in enumerate(map(str, catalogue.unique_id)):
            first = self._by_id.setdefault(name, i)
            # Repeated rows are common and harmless where they agree.
            a, b = catalogue.redshift[first], catalogue.redshift[i]
            if name and not np.isclose(a, b, rtol=0, atol=1e-3, equal_nan=True):
                raise CatalogueError(
                    f"{catalogue.path or 'catalogue'}: id {name!r} stands in rows {first} and {i} with "
                    f"redshifts {a} and {b}; keep one row per id, or name a column that "
                    "tells them apart with unique_id=..."
                )
        self._by_id.pop("", None)
        self._near = _Positions(catalogue.ra, catalogue.dec, config.separation_arcsec)

    def secure(self, unique_id: str, prism: ArchiveFile) -> int:
        """Row of an object with a secure redshift.

        Raises:
            QualityError: for no such row, no redshift or another flag.
        """
        row = self._by_id.get(unique_id)
        if row is None:
            prism = located(prism)
            row = next(iter(self._near.around(prism.ra, prism.dec)), None)
        if row is None:
            raise QualityError("in catalogue", "no row with this id or position")
        flag = str(self._catalogue.redshift_flag[row])
        if not np.isfinite(self._catalogue.redshift[row]):
            raise QualityError("secure redshift", "no redshift: the catalogue has none")
        if self._has_flags and (not flag or flag not in self._flags):
            reason = f"insecure redshift: flag {flag!r}, not one of {self._flags}"
            raise QualityError("secure redshift", reason)
        return row
