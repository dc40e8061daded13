"""From the files of one galaxy to an aligned pair (paper section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data_pipeline.instrument import PRISM, instrument_for, load_instrument
from data_pipeline.lines.grating_fit import FittedArm, LineFitConfig, LineFluxes, fit_lines, unfitted_lines
from data_pipeline.pairs.matching import GRATING_DISPERSERS, Match, QualityError
from data_pipeline.pairs.sky_groups import chord, unit_vectors
from data_pipeline.pairs.stitching import StitchConfig, StitchedSpectrum, stitch
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.readers import read_spectrum
from data_pipeline.resampling import to_prism_pixels, upsample
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError

# The doublet counts as one line: gratings of medium resolution blend its members, so that how the flux is
# divided among them is uncertain where the sum is not.
QUALITY_LINES = (("Halpha",), ("[OII]_3727", "[OII]_3730"), ("[OIII]_5008",))


@dataclass(frozen=True)
class PreprocessingConfig:
    """Settings of a pair.

    Attributes:
        grid: unified grid.
        extraction: ``3pix`` or ``5pix``, the same for both members of a pair.
        stitch: how gratings are joined.
        line_fit: how line fluxes are measured.
        minimum_line_snr: one of Halpha, [O II], [O III] 5008 must exceed this in the gratings (paper: 5).
        position_tolerance_arcsec: positions in the headers of a pair may differ by this much (paper: 0.2).
        minimum_grating_coverage: least share of the grid that the gratings must cover.
    """

    grid: UnifiedGrid = field(default_factory=UnifiedGrid)
    extraction: str = "3pix"
    stitch: StitchConfig = field(default_factory=StitchConfig)
    line_fit: LineFitConfig = field(default_factory=LineFitConfig)
    minimum_line_snr: float = 5.0
    position_tolerance_arcsec: float = 0.2
    minimum_grating_coverage: float = 0.05

    def __post_init__(self) -> None:
        if self.extraction not in ("3pix", "5pix"):
            raise ValueError(f"preprocessing: expected extraction 3pix or 5pix, got {self.extraction!r}")
        for name in ("minimum_line_snr", "position_tolerance_arcsec", "minimum_grating_coverage"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(
                    f"preprocessing: expected a finite {name} of 0 or more, got {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Pair:
    """One galaxy at both resolutions, aligned.

    Attributes:
        prism: on the prism's own pixels (flux, error, mask), (706,) each.
        prism_unified: up-sampled on the unified grid (flux, error, mask), (n,) each.
        stitched: the gratings on the unified grid.
        lines: line fluxes fitted on the gratings at the known redshift.
        extraction: which extraction each file gave, by disperser.
        notes: what the readers repaired, by file.
    """

    prism: tuple[np.ndarray, np.ndarray, np.ndarray]
    prism_unified: tuple[np.ndarray, np.ndarray, np.ndarray]
    stitched: StitchedSpectrum
    lines: LineFluxes
    extraction: dict[str, str]
    notes: dict[str, tuple[str, ...]]


def read_match(match: Match, config: PreprocessingConfig) -> tuple[ObservedSpectrum, list[ObservedSpectrum]]:
    """Prism and gratings of a match, in one extraction.

    Raises:
        QualityError: where any of its files cannot be read, or the positions disagree.
    """
    try:
        prism = read_spectrum(match.prism, extraction=config.extraction)
    except SpectrumError as error:
        raise QualityError("files readable", f"unreadable: {error}") from error
    gratings, broken = [], []
    for path in match.gratings:
        try:
            # The extraction that the prism was found in, not the wanted one: two apertures lose different
            # shares of the light, which the networks would learn as if it were resolution.
            gratings.append(read_spectrum(path, extraction=prism.meta.extraction or config.extraction))
        except SpectrumError as error:
            broken.append(str(error))
    if broken:
        raise QualityError("files readable", f"unreadable: {'; '.join(broken)}")
    for grating in gratings:
        apart = separation(prism, grating)
        if apart > config.position_tolerance_arcsec:
            raise QualityError(
                "positions agree",
                f"header positions differ: {grating.meta.path} lies {apart:.2f} arcsec from its prism, "
                f"{config.position_tolerance_arcsec} allowed",
            )
    return prism, gratings


def separation(a: ObservedSpectrum, b: ObservedSpectrum) -> float:
    """Separation of the positions in two headers [arcsec]; 0 where one is unknown."""
    distance = np.linalg.norm(unit_vectors(a.meta.ra, a.meta.dec) - unit_vectors(b.meta.ra, b.meta.dec))
    # Files of other reductions may lack a position; then their names, by which they were matched, must do.
    return 0.0 if not np.isfinite(distance) else float(distance / chord(1.0))


def align(prism: ObservedSpectrum, grid: UnifiedGrid):
    """Prism on its own 706 pixels and up-sampled on the grid, each as (flux, error, mask)."""
    own = load_instrument(PRISM).wavelength
    on_pixels = to_prism_pixels(prism.wavelength, prism.flux, prism.error, prism.mask)
    return on_pixels, upsample(own, *on_pixels, grid.wavelength)


def make_pair(
    prism: ObservedSpectrum,
    gratings: Sequence[ObservedSpectrum],
    redshift: float,
    config: PreprocessingConfig | None = None,
) -> Pair:
    """Stitch, align and measure one galaxy; a missing grating is a gap.

    Without a redshift (NaN) no line is fitted.

    Raises:
        QualityError: where nothing can be stitched or aligned.
    """
    config = config or PreprocessingConfig()
    # High-resolution gratings of the same source are no part of the target: it has one resolution.
    known = [g for g in gratings if g.meta.disperser in GRATING_DISPERSERS]
    try:
        stitched = stitch(known, config.grid, config.stitch)
    except (SpectrumError, ValueError) as error:
        raise QualityError("stitched", f"not stitched: {error}") from error
    # A few stray pixels would be a pair in which there is next to nothing to learn.
    covered = 1.0 - stitched.mask.mean()
    if covered < config.minimum_grating_coverage:
        raise QualityError("stitched", f"too little coverage: gratings cover {covered:.1%} of the grid")
    try:
        on_pixels, on_grid = align(prism, config.grid)
    except ValueError as error:
        raise QualityError("aligned", f"not aligned: {prism.meta.origin}: {error}") from error
    lines = unfitted_lines()
    if np.isfinite(redshift):
        lines = fit_lines(_scaled_arms(known, stitched), redshift, config.line_fit)
    return Pair(
        on_pixels,
        on_grid,
        stitched,
        lines,
        {s.meta.disperser: s.meta.extraction for s in (prism, *known)},
        {s.meta.path: s.meta.notes for s in (prism, *known) if s.meta.notes},
    )


def _scaled_arms(gratings: Sequence[ObservedSpectrum], stitched: StitchedSpectrum) -> list[FittedArm]:
    """Gratings on their native pixels and on the stitched spectrum's flux scale."""
    arms = []
    for grating in gratings:
        # The native pixels, since resampling correlates the noise, which would make the fit's errors too
        # small; their scale is the stitched one, so that the fluxes belong to the spectrum in the record.
        scale = stitched.scales[grating.meta.disperser]
        instrument = load_instrument(instrument_for(grating.meta.disperser)).with_pixels(grating.wavelength)
        arms.append(FittedArm(instrument, grating.flux * scale, grating.error * scale, grating.mask))
    return arms


def check_quality(pair: Pair, config: PreprocessingConfig) -> None:
    """The paper's cut: one of Halpha, [O II], [O III] detected in the gratings.

    Raises:
        QualityError: naming the S/N of each line.
    """
    snr = {"+".join(names): pair.lines.signal_to_noise(*names) for names in QUALITY_LINES}
    # NaN stands for a line outside of the gratings, which says nothing against the galaxy.
    if not any(value > config.minimum_line_snr for value in snr.values() if np.isfinite(value)):
        text = ", ".join(f"{name} {value:.1f}" for name, value in snr.items())
        raise QualityError(
            f"line at S/N > {config.minimum_line_snr:g}",
            f"no significant line: S/N {text} (nan: not covered)",
        )
