"""JADES HLSP file names, built and taken apart."""

import re
from dataclasses import dataclass

_NAME = re.compile(
    r"nirspec_(?P<tier>[a-z0-9-]+?)-(?P<id>\d+)_(?P<filter>[a-z0-9]+)-(?P<disperser>[a-z0-9]+)"
    r"_v[\d.]+_x1d\.fits(\.gz)?$"
)


@dataclass(frozen=True)
class JadesFileName:
    """Parts of a JADES file name: the id without leading zeros, filter and disperser in upper case."""

    tier: str
    source_id: str
    filter: str
    disperser: str


def jades_file_name(tier: str, source_id: int | str, filter: str, disperser: str) -> str:
    """``hlsp_jades_jwst_nirspec_<tier>-<8-digit id>_<filter>-<disperser>_v1.0_x1d.fits``.

    Raises:
        ValueError: for an id that is no whole number, or parts that the name could not give back.
    """
    if not str(source_id).isdigit():
        raise ValueError(
            f"source_id={source_id!r} is no whole number; JADES names hold an 8-digit NIRSpec id."
        )
    name = (
        f"hlsp_jades_jwst_nirspec_{tier.lower()}-{int(source_id):08d}_{filter.lower()}-{disperser.lower()}"
        "_v1.0_x1d.fits"
    )
    if parse_jades_file_name(name) is None:
        raise ValueError(
            f"tier={tier!r}, filter={filter!r}, disperser={disperser!r} give {name!r}, which is no JADES "
            "name; use letters, digits and (in the tier) hyphens."
        )
    return name


def parse_jades_file_name(name: str) -> JadesFileName | None:
    """The parts of a JADES x1d file name; None for any other name."""
    found = _NAME.search(name)
    if found is None:
        return None
    return JadesFileName(
        tier=found["tier"],
        source_id=found["id"].lstrip("0") or "0",
        filter=found["filter"].upper(),
        disperser=found["disperser"].upper(),
    )


_FIELDS = {"gs": "goods-s", "gn": "goods-n"}
_OLD_TIER = re.compile(r"^(?P<depth>[a-z]+)_(?P<selection>hst|jwst)_(?P<field>g[ns])$")


def normalise_tier(text: str) -> str:
    """A tier as file names spell it: ``medium_hst_gn`` of the DR3 headers is ``goods-n-mediumhst``."""
    lower = text.strip().lower()
    old = _OLD_TIER.match(lower)
    return f"{_FIELDS[old['field']]}-{old['depth']}{old['selection']}" if old else lower


def sky_field(*names: str) -> str:
    """``goods-n`` or ``goods-s`` from the first name (of a tier, target or field) that tells; else empty."""
    for name in names:
        lower = name.strip().lower()
        for short, field in _FIELDS.items():
            full_name = {"gs": "goods-south", "gn": "goods-north"}[short]
            if lower.startswith((field, full_name)) or lower == short or lower.endswith(f"_{short}"):
                return field
    return ""
