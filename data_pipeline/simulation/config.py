"""Settings of a simulation, to JSON and back, and the population of galaxies and of everything else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from data_pipeline.configuration import (
    check_between,
    check_keys,
    check_numbers,
    from_dict,
    json_hash,
    to_dict,
)
from data_pipeline.instrument.prism_pixels import RELEASED
from data_pipeline.lines import LISTS
from data_pipeline.simulation.nuisances import Nuisances

CONTINUA = ("parametric", "library")
JADES_ALONE = {"jades": 1.0}  # share of each release, see `Population`
# Kinds that have no redshift to be had: nothing, stars and failed stars, no features, breaks beyond z 15.
WITHOUT_REDSHIFT = ("noise", "ultracool-dwarf", "star", "featureless", "beyond-the-grid")
KINDS = ("star-forming", "broad-line", "quiescent", "post-starburst", *WITHOUT_REDSHIFT, "quasar")
STAR_FORMING, BROAD_LINE, QUIESCENT, POST_STARBURST = range(4)
QUASAR = len(KINDS) - 1
# What goes wrong with an observation, whatever is in the slit; "" stands for none of it.
TROUBLES = (
    *("two-sources", "over-subtracted", "under-subtracted", "detector-step", "false-absorption"),
    *("hot-pixels", "masked-line", "absurd-error"),
)


def share_of(name: str) -> str:
    """The field of `Population` with the share of one of `KINDS` or `TROUBLES`."""
    return f"{name.replace('-', '_')}_fraction"


@dataclass(frozen=True)
class Population:
    """Statistics of the galaxies. Fluxes and ratios are those of JADES DR4 unless a factor says otherwise.

    Attributes:
        name: one of `POPULATIONS` for the shipped ones; free for your own.
        flat_redshift_fraction: share of galaxies with a redshift drawn flat over ``redshift_range``
            instead of from the JADES histogram.
        redshift_range: limits of the flat part.
        species_scatter: extra scatter [dex] of every line ratio that atomic physics does not fix.
        extra_dust: factor on the scatter of the Balmer decrement's reddening.
        line_sn_median: median S/N of the strongest line before source noise, star-forming galaxies: flux over
            the typical line error of the tier.
        line_sn_scatter: its scatter [dex].
        continuum_sn_median: median prism S/N per pixel of galaxies without emission lines, near 2 um.
        continuum_sn_scatter: its scatter [dex].
        equivalent_width_factor: factor on the rest-frame equivalent widths.
        equivalent_width_scatter: their scatter at given redshift [dex].
        equivalent_width_correlation: of the equivalent width with the line S/N at given redshift: targets
            are selected by their continuum, so bright lines mean large equivalent widths.
        broad_line_fraction: share of broad-line objects.
        little_red_dot_fraction: share among the broad-line objects with a V-shaped continuum.
        quasar_fraction: share of type-1 quasars, at z 1-10; needs library continua.
        quiescent_fraction: share of quiescent galaxies.
        post_starburst_fraction: share of absorption-line (post-starburst) galaxies.
        noise_fraction: share of spectra without any source.
        ultracool_dwarf_fraction: share of brown dwarfs and late M dwarfs (400-2,700 K).
        star_fraction: share of other stars of the Galaxy.
        featureless_fraction: share of power laws, black bodies and flat spectra.
        beyond_the_grid_fraction: share of galaxies at z 15-20, which show their Lyman break; needs library
            continua.
        two_sources_fraction: share of slits with a second source of any kind.
        over_subtracted_fraction: share of spectra with too much background taken off.
        under_subtracted_fraction: share of spectra with too little taken off.
        detector_step_fraction: share of prism spectra with a step where two detectors meet.
        false_absorption_fraction: share with dips that are no lines.
        hot_pixels_fraction: share with unflagged hot or cold pixels.
        masked_line_fraction: share whose brightest line has a masked core.
        absurd_error_fraction: share whose quoted errors are nonsense.
        continua: ``parametric`` (black bodies and power laws with breaks) or ``library`` (stars of the
            shipped library with the nebular continuum of their gas).
        outflow_fraction: share of star-forming and broad-line objects with wings of [O III] and Halpha.
        metal_rich_fraction: share of star-forming galaxies on the metal-rich sequence at z 0, fewer beyond,
            none from z 3; library continua alone have them.
        size_scatter: scatter of half-light radii [dex] about 0.08 arcsec at z 3, which set resolving power
            and slit losses; at 0 every source has that radius.
        reobserved_fraction: share of observations that see an earlier galaxy again in another tier.
        shared_id_fraction: share of observations that carry another galaxy's id, in another tier.
        releases: release (`data_pipeline.instrument.prism_pixels.RELEASED`) to its share of the observations.
    """

    name: str = "survey"
    flat_redshift_fraction: float = 0.0
    redshift_range: tuple[float, float] = (0.1, 14.5)
    species_scatter: float = 0.0
    extra_dust: float = 1.0
    line_sn_median: float = 41.0
    line_sn_scatter: float = 0.46
    continuum_sn_median: float = 15.0
    continuum_sn_scatter: float = 0.3
    equivalent_width_factor: float = 1.0
    equivalent_width_scatter: float = 0.42
    equivalent_width_correlation: float = 0.5
    broad_line_fraction: float = 0.03
    little_red_dot_fraction: float = 0.4
    quasar_fraction: float = 0.0
    quiescent_fraction: float = 0.025
    post_starburst_fraction: float = 0.02
    noise_fraction: float = 0.05
    ultracool_dwarf_fraction: float = 0.0
    star_fraction: float = 0.0
    featureless_fraction: float = 0.0
    beyond_the_grid_fraction: float = 0.0
    two_sources_fraction: float = 0.0
    over_subtracted_fraction: float = 0.0
    under_subtracted_fraction: float = 0.0
    detector_step_fraction: float = 0.0
    false_absorption_fraction: float = 0.0
    hot_pixels_fraction: float = 0.0
    masked_line_fraction: float = 0.0
    absurd_error_fraction: float = 0.0
    continua: str = "parametric"
    outflow_fraction: float = 0.0
    metal_rich_fraction: float = 0.0
    size_scatter: float = 0.0
    reobserved_fraction: float = 0.03
    shared_id_fraction: float = 0.05
    releases: Mapping[str, float] = field(default_factory=lambda: dict(JADES_ALONE))

    def __post_init__(self) -> None:
        positive = ("line_sn_median", "continuum_sn_median", "equivalent_width_factor")
        check_numbers(self, positive, others=("name", "continua", "releases"))
        object.__setattr__(self, "redshift_range", tuple(float(z) for z in self.redshift_range))
        for names in (KINDS[1:], TROUBLES):
            total = round(sum(self.shares(names)), 9)  # a sum of 1 may be a last digit more
            check_between(f"sum of the fractions of {', '.join(names)}", total, 0, 1)
        if len(self.redshift_range) != 2 or not 0 <= self.redshift_range[0] < self.redshift_range[1] <= 15:
            raise ValueError(f"redshift_range: expected 0 <= low < high <= 15, got {self.redshift_range}")
        if self.continua not in CONTINUA:
            raise ValueError(f"continua={self.continua!r}: expected one of {', '.join(CONTINUA)}")
        for name in ("beyond_the_grid_fraction", "quasar_fraction"):
            if getattr(self, name) and self.continua != "library":
                raise ValueError(f'{name}: needs continua "library", with stars beyond z 15 and nuclei')
        check_between("equivalent_width_correlation", self.equivalent_width_correlation, -1.0, 1.0)
        object.__setattr__(self, "releases", {name: float(share) for name, share in self.releases.items()})
        if unknown := sorted(set(self.releases) - set(RELEASED)):
            raise ValueError(
                f"releases: unknown {', '.join(unknown)}; expected some of {', '.join(RELEASED)}"
            )
        if not self.releases or not all(0 < share < math.inf for share in self.releases.values()):
            raise ValueError(f"releases: expected one positive share or more, got {dict(self.releases)}")

    def shares(self, names: tuple[str, ...]) -> list[float]:
        """Shares of some of `KINDS` (but the first, which has what is left) or `TROUBLES`."""
        return [getattr(self, share_of(name)) for name in names]

    @property
    def is_open(self) -> bool:
        """Whether there is more than galaxies and nothing at all: other kinds, or trouble."""
        return any(self.shares((*WITHOUT_REDSHIFT[1:], *TROUBLES)))

    @cached_property
    def stream(self) -> int:
        """64 bits that tell this population from others: it keys the random numbers (see `Draws`)."""
        content = to_dict(self)
        # Settings that came later and are left at their defaults do not change what older ones draw.
        later = {"continua": "parametric", "releases": JADES_ALONE, "quasar_fraction": 0.0}
        later |= {"outflow_fraction": 0.0, "size_scatter": 0.0, "metal_rich_fraction": 0.0}
        later |= {share_of(name): 0.0 for name in (*WITHOUT_REDSHIFT[1:], *TROUBLES)}
        content = {name: value for name, value in content.items() if later.get(name) != value}
        return int(json_hash(content)[:16], 16)


def _opened(population: Population, name: str, each_kind: float, each_trouble: float) -> Population:
    """A population with every other kind and every trouble at these shares."""
    shares = {share_of(kind): each_kind for kind in WITHOUT_REDSHIFT[1:]}
    return replace(population, name=name, **shares, **{share_of(one): each_trouble for one in TROUBLES})


# The training population is wider than JADES on purpose: a network trained on a narrow one recites it (see
# docs/design.md, simulator). Every species gets 0.42 dex of its own, a third of the redshifts are flat,
# and galaxies known by breaks instead of lines are several times as many: their redshifts are the hardest.
POPULATIONS = {
    "survey": Population(),
    "wide": Population(
        name="wide",
        flat_redshift_fraction=0.35,
        species_scatter=0.42,
        extra_dust=1.5,
        line_sn_scatter=0.6,
        continuum_sn_scatter=0.5,
        equivalent_width_scatter=0.55,
        broad_line_fraction=0.08,
        little_red_dot_fraction=0.5,
        quiescent_fraction=0.10,
        post_starburst_fraction=0.08,
        noise_fraction=0.05,
        reobserved_fraction=0.0,
        shared_id_fraction=0.0,
    ),
}
_EVERY_RELEASE = {name: 0.1 for name in RELEASED if name != "dja-v3"} | {"jades": 0.4}  # v3 is as v2
# The same two with continua that are stars: what the sky shows, and what a network should be trained on.
POPULATIONS |= {
    "sky": replace(
        POPULATIONS["survey"],
        name="sky",
        continua="library",
        outflow_fraction=0.15,
        quasar_fraction=0.005,
        # of JADES's galaxies at z 0.5-1.5 a sixth have [N II] over a fifth of Halpha
        metal_rich_fraction=0.2,
        size_scatter=0.2,
    ),
    "wide-sky": replace(
        POPULATIONS["wide"],
        name="wide-sky",
        continua="library",
        outflow_fraction=0.3,
        quasar_fraction=0.04,
        metal_rich_fraction=0.4,
        size_scatter=0.35,
        releases=_EVERY_RELEASE,
    ),
}
# The same two with everything else that a slit sees: enough of each for judging, and for training.
POPULATIONS |= {
    "open-sky": _opened(POPULATIONS["sky"], "open-sky", 0.06, 0.03),
    "wide-open": _opened(POPULATIONS["wide-sky"], "wide-open", 0.04, 0.02),
}


@dataclass(frozen=True)
class SimulationConfig:
    """A whole simulation.

    Attributes:
        population: ``"survey"`` (JADES statistics), ``"wide"`` (for training), or a `Population`.
        nuisances: what differs between observations.
        lines: list of lines (`data_pipeline.lines.load_lines`) that galaxies emit and the truth knows. The
            lines of a shorter list are the same in a longer one.
    """

    population: Population | str = "survey"
    nuisances: Nuisances = field(default_factory=Nuisances)
    lines: str = "first"

    def __post_init__(self) -> None:
        if isinstance(self.population, str):
            if self.population not in POPULATIONS:
                raise ValueError(
                    f"population={self.population!r} is unknown; expected one of {', '.join(POPULATIONS)} "
                    "or a Population"
                )
            object.__setattr__(self, "population", POPULATIONS[self.population])
        if self.lines not in LISTS:
            raise ValueError(f"lines={self.lines!r}: expected one of {', '.join(LISTS)}")

    def as_dict(self) -> dict:
        """Nested dictionary; without ``lines`` for the first list, as archives and runs before it have it."""
        content = asdict(self)
        return content if self.lines != "first" else {k: v for k, v in content.items() if k != "lines"}

    def to_json(self) -> str:
        """This configuration as JSON text."""
        return json.dumps(self.as_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> SimulationConfig:
        """Read what `to_json` writes; keys left out keep their defaults.

        ``population`` may be a name or an object, which starts from the shipped population of its ``name``.

        Raises:
            ValueError: for text that is no JSON object, naming unknown keys and the known ones.
        """
        try:
            given = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"simulation configuration: not JSON ({error}); expected an object") from None
        check_keys(given, cls, "simulation configuration")
        population = given.get("population", "survey")
        if not isinstance(population, str):
            check_keys(population, Population, "population")
            start = asdict(POPULATIONS.get(population.get("name", "survey"), Population()))
            population = from_dict(Population, {**start, **population}, "population")
        nuisances = from_dict(Nuisances, given.get("nuisances", {}), "nuisances")
        return cls(population, nuisances, given.get("lines", "first"))

    @classmethod
    def from_file(cls, path: str | Path) -> SimulationConfig:
        """Read a JSON file.

        Raises:
            OSError: naming the file, for one that is missing, a directory or unreadable.
            ValueError: as `from_json`, naming the file.
        """
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(f"configuration {path} is a directory; expected a JSON file")
        if not path.is_file():
            raise FileNotFoundError(f"configuration {path} not found; expected a JSON file")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
