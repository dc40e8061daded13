"""Choice of the galaxy of a picture: the one asked for, or an instructive one by a stated rule."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.building.row import aligned_spectra, augmented_row, row_generator
from data_pipeline.catalogue import Catalogue
from data_pipeline.pairs.augmentation import AugmentationConfig, augment
from data_pipeline.pairs.matching import Dropped, Match
from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, read_match
from data_pipeline.pictures.line_marks import KEY_LINES, observed_wavelengths
from data_pipeline.pictures.style import line_significance
from data_pipeline.records import Manifest, iterate

CANDIDATES = 200  # originals among which the default galaxy of records is chosen
READ_AT_MOST = 25  # galaxies whose files are read where a catalogue has no line fluxes
_DETECTED = 5.0


@dataclass(frozen=True)
class Family:
    """Rows of a galaxy and of its realisations: ``stored`` in the records, otherwise made for the picture."""

    original: dict[str, Any]
    copies: tuple[dict[str, Any], ...]
    split: str
    stored: bool


def find_match(matches: Sequence[Match], dropped: Sequence[Dropped], unique_id: str) -> Match:
    """The match with an id.

    Raises:
        ValueError: saying why matching dropped it, or naming ids that are alike.
    """
    for candidate in matches:
        if candidate.unique_id == unique_id:
            return candidate
    for item in dropped:
        if item.unique_id == unique_id:
            raise ValueError(f"object {unique_id} makes no pair: {item.step}: {item.reason}")
    raise ValueError(_unknown(unique_id, [m.unique_id for m in matches], "the archive"))


def _unknown(unique_id: str, known: Sequence[str], where: str) -> str:
    near = difflib.get_close_matches(unique_id, known, n=3, cutoff=0.3) or known[:3]
    return (
        f"no object {unique_id!r} in {where}, which holds {len(known)}, such as {', '.join(near) or 'none'}"
    )


def choose_match(
    matches: Sequence[Match],
    catalogue: Catalogue,
    config: PreprocessingConfig,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Match:
    """The default galaxy of an archive, by the rule that ``inspect --help`` states.

    Grating line fluxes of the catalogue rank the galaxies; without any the files are read, under
    ``progress``.

    Raises:
        ValueError: where there is no match.
    """
    if not matches:
        raise ValueError(
            "no galaxy has a prism, a grating and a secure redshift; check the archive and --catalogue"
        )
    most = max(len(m.gratings) for m in matches)
    best = [m for m in matches if len(m.gratings) == most]
    if catalogue.grating_lines:
        row_of = {str(name): row for row, name in enumerate(catalogue.unique_id)}
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.stack([line.flux / line.error for line in catalogue.grating_lines.values()], axis=1)
        ratio = np.where(np.isfinite(ratio), ratio, 0.0)

        def rank(m: Match) -> tuple[int, float]:
            row = row_of.get(m.unique_id)
            return (0, 0.0) if row is None else (int((ratio[row] > _DETECTED).sum()), float(ratio[row].max()))

        return max(best, key=rank)

    def peak(m: Match) -> float:
        try:
            _, gratings = read_match(m, config)
        except QualityError:
            return -1.0  # whoever draws it is told why
        return max(brightest_line(s.flux, s.error, s.mask) for s in gratings)

    candidates = best[:READ_AT_MOST]
    return candidates[int(np.argmax([peak(m) for m in progress(candidates)]))]


def brightest_line(flux: np.ndarray, error: np.ndarray, mask: np.ndarray) -> float:
    """Excess of the brightest line pixel over its surroundings, in sigma; 0 without a line."""
    return float(line_significance(flux, error, mask).max())


def choose_original(directory: str | Path) -> dict[str, Any]:
    """Row of the default galaxy of records, by the rule that ``inspect --help`` states.

    Raises:
        ValueError: for records without a training part.
    """
    fields = ("grating_flux", "grating_error", "grating_mask", "realisation", "unique_id", "tier", "redshift")
    wavelength = Manifest.read(directory).grid.wavelength
    best, highest = None, (-np.inf, -np.inf)
    # The builder writes all originals before their copies.
    for row in islice(iterate(directory, "train", fields=fields, verify=False), CANDIDATES):
        if row["realisation"] != 0:
            break
        peak = brightest_line(row["grating_flux"], row["grating_error"], row["grating_mask"])
        rank = (-_lines_in_gaps(row, wavelength), peak)
        if rank > highest:
            best, highest = row, rank
    if best is None:
        raise ValueError(f"{directory}: the training part is empty; build records with more galaxies")
    return best


def _lines_in_gaps(row: dict[str, Any], wavelength: np.ndarray) -> int:
    """Number of main lines in range whose pixel is masked; all of them without a redshift."""
    names = [name for _, group in KEY_LINES[:4] for name in group]
    if not np.isfinite(row["redshift"]):
        return len(names)
    at = observed_wavelengths(names, float(row["redshift"]))
    at = at[(at > wavelength[0]) & (at < wavelength[-1])]
    return int(np.asarray(row["grating_mask"], bool)[np.searchsorted(wavelength, at)].sum())


def find_family(
    directory: str | Path, unique_id: str, progress: Callable[[Iterable, int], Iterable] | None = None
) -> Family:
    """A galaxy's row and its realisations: those in the records, or else 20 made for the picture.

    ``progress`` wraps the rows that are searched, given their number.

    Raises:
        ValueError: for an id that is not there, naming ids that are alike.
    """
    manifest = Manifest.read(directory)
    expected = int(manifest.augmentation.get("realisations", 0))
    known: dict[str, None] = {}
    for split in manifest.splits:
        if not manifest.count(split):
            continue
        rows = iterate(directory, split, verify=False)
        wanted = 1 + (expected if split == "train" else 0)
        found: list[dict[str, Any]] = []
        for row in progress(rows, manifest.count(split)) if progress else rows:
            known.setdefault(str(row["unique_id"]))
            if row["unique_id"] == unique_id:
                found.append(row)
                if len(found) == wanted:
                    break
        originals = [row for row in found if row["realisation"] == 0]
        if originals:
            copies = tuple(row for row in found if row["realisation"] != 0)
            if copies:
                return Family(originals[0], copies, split, stored=True)
            return Family(originals[0], _realisations(originals[0], manifest), split, stored=False)
    raise ValueError(_unknown(unique_id, list(known), str(directory)))


def _realisations(original: dict[str, Any], manifest: Manifest) -> tuple[dict[str, Any], ...]:
    config, wavelength = AugmentationConfig(), manifest.grid.wavelength
    limits = max(config.trim[0], wavelength[0]), min(config.trim[1], wavelength[-1])
    spectra, copies = aligned_spectra(original), []
    for number in range(1, config.realisations + 1):
        rng = row_generator(manifest.seeds.get("build", 0), str(original["unique_id"]), number)
        copies.append(augmented_row(original, augment(spectra, manifest.grid, config, rng), number, limits))
    return tuple(copies)
