"""``python -m benchmarks.continuum_fits``: which real prism spectra the simulator's continua can describe.

Stars of the simulator's library, its other continua, dust and lines at the known redshift, by non-negative
least squares. What is left is what the simulator cannot make, or what the line-spread function gets wrong.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline import command_line as cli
from data_pipeline.instrument import PRISM, SPEED_OF_LIGHT, load_instrument
from data_pipeline.instrument.prism_pixels import sampling_of
from data_pipeline.pictures.style import WAVELENGTH_LABEL, save_picture, styled
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from data_pipeline.stellar_library import AGE_EDGES
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.evaluation.real_pairs import read_pairs
from kspecsr.evaluation.report import text_table
from kspecsr.methods.template_fit import TemplateFit, fit_templates, templates_at

# Redshifts of public spectra whose files state none: JADES DR4, flags A to C, and the papers of each.
KNOWN = {
    "3204": 2.673,
    "3991": 10.603,
    "110": 4.063,
    "1927": 3.66,
    "7437": 6.856,
    "183348": 14.18,
    "199773": 2.820,
    "ceers-1019": 8.684,
    "s08488": 8.684,  # the same source in CEERS
}
DESCRIBED = 1.5  # CHI2NU below which a spectrum is described
_REACH, _STEP = 0.006, 5e-4  # of 1 + z: releases and gratings differ in zero point
_RESOLUTION = (1.14, 1.22, 1.30)  # factors on the tabulated resolving power; JADES: 1.16-1.29
_FAINT = 5.0  # S/N below which residuals in per cent say nothing
_AGES = ((0.0, 10.0), (10.0, 100.0), (100.0, 1000.0), (1000.0, 1e5))  # Myr


@dataclass(frozen=True, eq=False)
class Described:
    """A spectrum and the best fit.

    Attributes:
        spectrum: as read.
        known: its known redshift.
        fit: of it, at the best redshift nearby.
        noise_variance: of its pixels over the quoted one.
    """

    spectrum: ObservedSpectrum
    known: float
    fit: TemplateFit
    noise_variance: float

    @property
    def name(self) -> str:
        """The file's."""
        name = Path(self.spectrum.meta.path).name.removeprefix("hlsp_jades_jwst_nirspec_")
        return name.replace("_prism-clear", "").replace("_clear-prism", "").split("_v")[0].split(".")[0]

    @property
    def signal(self) -> np.ndarray:
        """(n,) S/N per pixel of the continuum."""
        return self.fit.continuum / np.where(self.spectrum.mask, np.inf, self.spectrum.error)

    @property
    def residual(self) -> np.ndarray:
        """(n,) in units of the noise of a pixel; 0 where masked."""
        error = np.where(self.spectrum.mask, np.inf, self.spectrum.error) * np.sqrt(self.noise_variance)
        return np.where(self.spectrum.mask, 0.0, self.spectrum.flux - self.fit.model) / error

    @property
    def row(self) -> list[str]:
        """Of the table."""
        good = ~self.spectrum.mask
        bright = good & (self.signal > _FAINT)
        excess = np.mean(self.residual[bright] ** 2 - 1.0) * self.noise_variance if bright.any() else 0.0
        share = np.sqrt(max(excess, 0.0)) / np.median(self.signal[bright]) if bright.any() else np.nan
        t, edges = self.fit.templates, np.array(AGE_EDGES)
        ages = [
            self.fit.light((t.kind == "stars") & (edges[t.age] >= low) & (edges[t.age] < high))
            for low, high in _AGES
        ]
        velocity = SPEED_OF_LIGHT * (self.fit.redshift - self.known) / (1.0 + self.known)
        blocks = np.array_split(np.arange(good.size), 12)
        worst = max(blocks, key=lambda block: np.mean(self.residual[block] ** 2))
        at = self.spectrum.wavelength[worst[[0, -1]]] / (1.0 + self.known)
        return [
            self.name,
            f"{self.known:.3f}",
            f"{velocity:+.0f}",
            f"{np.median(self.signal[good]):.0f}",
            f"{self.fit.chi_square:.2f}",
            f"{100 * share:.1f}",
            *(f"{100 * age:.0f}" for age in ages),
            *(f"{100 * self.fit.light(t.kind == kind):.0f}" for kind in ("nebular", "envelope", "nucleus")),
            f"{at[0]:.2f}-{at[1]:.2f}",
            "yes" if self.fit.chi_square < DESCRIBED else "no",
        ]


_HEADINGS = ("spectrum", "z", "fit [km/s]", "S/N", "CHI2NU", "excess [%]", "< 10 Myr", "10-100", "100-1000")
_HEADINGS += ("> 1000", "nebular", "envelope", "nucleus", "worst, rest [um]", f"< {DESCRIBED}")


def describe(spectrum: ObservedSpectrum, redshift: float) -> Described:
    """The best fit to a prism spectrum on its own pixels, near the known redshift and usual resolution."""
    variance = sampling_of(spectrum.wavelength).variance
    arrays = (spectrum.flux, spectrum.error, spectrum.mask | (spectrum.wavelength < 0.6))
    tried = redshift + (1.0 + redshift) * np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    best = None
    for scale in _RESOLUTION:
        seen = load_instrument(PRISM, scale=scale).with_pixels(spectrum.wavelength)
        for z in tried:
            fit = fit_templates(*arrays, templates_at(float(z), instrument=seen), float(z), variance)
            best = fit if best is None or fit.chi_square < best.chi_square else best
    return Described(spectrum, redshift, best, variance)


def known_redshifts(folder: Path) -> dict[str, float]:
    """File name to redshift, of all tables of pairs in a tree."""
    found = {}
    for table in sorted(folder.rglob("pairs*.csv")):
        found |= {pair.prism.name: pair.redshift for pair in read_pairs(table)}
    return found


def redshift_of(spectrum: ObservedSpectrum, tabulated: dict[str, float]) -> float:
    """Known redshift of a spectrum: of the table, the file, or `KNOWN`; NaN without one."""
    meta = spectrum.meta
    name = Path(meta.path).name
    found = tabulated.get(name, meta.redshift)
    parts = {part.lstrip("0") for part in name.replace("-", "_").split("_")} | {meta.source_id}
    parts |= {word for word in KNOWN if word in name.lower() and not word.isdigit()}
    return found if np.isfinite(found) else next((KNOWN[part] for part in parts if part in KNOWN), np.nan)


@styled
def draw(described: list[Described]):
    """Picture of some: spectrum, fit and residuals."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(15.0, 3.4 * len(described)), layout="constrained")
    axes = figure.subplots(2 * len(described), 1, height_ratios=[3, 1] * len(described), squeeze=False)[:, 0]
    for above, below, one in zip(axes[::2], axes[1::2], described, strict=True):
        x, good = one.spectrum.wavelength, ~one.spectrum.mask
        scale = 1e-20
        above.step(x[good], one.spectrum.flux[good] / scale, color="black", lw=0.8, where="mid")
        above.plot(x, one.fit.model / scale, color="tab:red", lw=0.9, label="fit")
        above.plot(x, one.fit.continuum / scale, color="tab:blue", lw=0.9, label="continuum")
        top = np.nanpercentile(one.fit.continuum[good], 99.5) / scale
        above.set_ylim(-0.15 * top, 2.2 * top)
        above.set_title(f"{one.name}, z = {one.known:.3f}, CHI2NU {one.fit.chi_square:.2f}")
        above.set_ylabel("flux [1e-20]")
        above.legend(loc="upper right")
        below.step(x, one.residual, color="black", lw=0.6, where="mid")
        below.set_ylim(-15, 15)
        below.set_ylabel("residual [sigma]")
        for axis in (above, below):
            axis.set_xlim(x[0], x[-1])
    axes[-1].set_xlabel(WAVELENGTH_LABEL)
    return figure


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--real", "folder of prism spectra, with pairs.csv for redshifts", type=Path, required=True)
    cli.add(p, "--output", "where the picture of the worst six goes")


@cli.command(
    "python -m benchmarks.continuum_fits",
    "examples:\n  python -m benchmarks.continuum_fits --real spectra --output check\n",
    _options,
)
def main(args: argparse.Namespace) -> int:
    """Fit the simulator's continua and lines to real prism spectra at known redshifts."""
    tabulated, described, left = known_redshifts(args.real), [], []
    for given in tqdm(list_inputs([str(args.real)]), desc="fit", unit="spectrum", disable=args.quiet):
        try:
            spectrum = read_spectrum(given.path)
        except (SpectrumError, OSError) as error:
            left.append(str(error))
            continue
        redshift = redshift_of(spectrum, tabulated)
        if spectrum.meta.disperser != "PRISM" or not np.isfinite(redshift):
            continue
        described.append(describe(spectrum, redshift))
    if not described:
        raise cli.OptionError(f"--real {args.real}: no prism spectrum of known redshift in it")
    described.sort(key=lambda one: one.fit.chi_square)
    print(text_table([_HEADINGS, *(one.row for one in described)]))
    few = sum(one.fit.chi_square < DESCRIBED for one in described)
    print(f"{few} of {len(described)} spectra described to CHI2NU < {DESCRIBED}")
    print(
        "ages and nebular: per cent of the continuum's light; excess: residuals beyond the noise, in per cent"
    )
    print(f"of the continuum, where its S/N exceeds {_FAINT:g}")
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        print(f"picture: {save_picture(draw(described[-6:]), args.output / 'continuum_fits.png')}")
    return cli.list_failures(left, "not read")


if __name__ == "__main__":
    sys.exit(main())
