"""The public JADES releases: where they lie, how they are laid out, and which part of one is wanted."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from data_pipeline.jades_names import parse_jades_file_name

FIELDS = ("goods-n", "goods-s")

# disperser -> folder of the release, which is the disperser with its blocking filter
DISPERSER_FOLDERS = {
    "prism": "clear-prism",
    "g140m": "f070lp-g140m",
    "g235m": "f170lp-g235m",
    "g395m": "f290lp-g395m",
}


@dataclass(frozen=True)
class RemoteFile:
    """One file of an archive.

    Attributes:
        path: path below the release's root, with ``/``; the local copy lies at the same path.
        url: where it is fetched from.
        size: size [bytes] as the archive lists it; None where it does not.
        sha256: hexadecimal digest as the archive lists it; None where it does not.
    """

    path: str
    url: str
    size: int | None = None
    sha256: str | None = None

    @property
    def kind(self) -> str:
        """The disperser in lower case, or ``catalogue``."""
        name = parse_jades_file_name(self.path)
        return name.disperser.lower() if name else "catalogue"


@dataclass(frozen=True)
class Release:
    """One JADES data release.

    Attributes:
        base_url: root of the browsable tree; spectra lie at ``<field>/spectra/<filter-grating>/<tier>/``.
        catalogues: field -> path of its redshift and line catalogue below the root.
        on_mast: whether the files can be asked for by name from MAST.
    """

    base_url: str
    catalogues: dict[str, str]
    on_mast: bool


RELEASES = {
    # HLSP page: https://archive.stsci.edu/hlsp/jades, DOI 10.17909/8tdj-8n28
    "dr3": Release(
        base_url="https://archive.stsci.edu/hlsps/jades/dr3/",
        catalogues={
            field: f"{field}/catalogs/hlsp_jades_jwst_nirspec_{field}_prism-line-fluxes_v1.1_catalog.fits"
            for field in FIELDS
        },
        on_mast=True,
    ),
    # not on MAST when this was written (2026)
    "dr4": Release(
        base_url="https://jades.herts.ac.uk/DR4/",
        catalogues=dict.fromkeys(FIELDS, "Combined_DR4_external_v1.2.1.fits"),
        on_mast=False,
    ),
}


@dataclass(frozen=True)
class Selection:
    """The part of a release that is wanted.

    Attributes:
        fields: of `FIELDS`.
        dispersers: keys of `DISPERSER_FOLDERS`.
        tiers: tier names with or without their field (``goods-s-deephst`` or ``deephst``); empty for all.
        limit: at most so many targets, each with all of its files; None for all.
    """

    fields: tuple[str, ...] = FIELDS
    dispersers: tuple[str, ...] = tuple(DISPERSER_FOLDERS)
    tiers: tuple[str, ...] = ()
    limit: int | None = None

    def __post_init__(self):
        """Raise ValueError for a field, disperser or limit that no release has."""
        for given, known, what in (
            (self.fields, FIELDS, "field"),
            (self.dispersers, tuple(DISPERSER_FOLDERS), "disperser"),
        ):
            unknown = [name for name in given if name not in known]
            if unknown or not given:
                raise ValueError(f"Unknown {what} {unknown or given!r}; choose from {', '.join(known)}.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit} must be 1 or more; leave it out to fetch every target.")

    def wants_tier(self, field: str, tier: str) -> bool:
        """Whether a tier folder such as ``goods-s-deephst`` is wanted."""
        return not self.tiers or tier in self.tiers or tier.removeprefix(f"{field}-") in self.tiers

    def wants_path(self, path: str) -> bool:
        """Whether ``<field>/spectra/<filter-grating>/<tier>/<name>_x1d.fits`` is wanted."""
        parts = path.split("/")
        if len(parts) != 5 or not path.endswith(".fits"):
            return False
        field, spectra, folder, tier, file_name = parts
        name = parse_jades_file_name(file_name)
        return (
            field in self.fields
            and spectra == "spectra"
            and folder in {DISPERSER_FOLDERS[disperser] for disperser in self.dispersers}
            and self.wants_tier(field, tier)
            and name is not None
            and f"{name.filter}-{name.disperser}".lower() == folder
        )

    def first_targets(self, spectra: Iterable[RemoteFile]) -> list[RemoteFile]:
        """Sort by path and keep the first ``limit`` targets, those seen with the most dispersers first."""
        spectra = sorted(spectra, key=lambda file: file.path)
        if self.limit is None:
            return spectra
        targets: dict[tuple[str, str], list[RemoteFile]] = defaultdict(list)
        for file in spectra:
            name = parse_jades_file_name(file.path)
            targets[name.tier, name.source_id.zfill(8)].append(file)
        order = sorted(targets, key=lambda target: (-len(targets[target]), target))
        return sorted(
            (file for target in order[: self.limit] for file in targets[target]), key=lambda f: f.path
        )
