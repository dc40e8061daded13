"""Which column of a catalogue holds what: stated by the user, or found by the names that surveys use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from data_pipeline.readers.source import listed

# role -> column names in use; JADES DR4 first, then DR3, then plain tables. Case is ignored.
ALIASES = {
    "unique_id": ("Unique_ID",),
    "source_id": ("NIRSpec_ID", "source_id", "srcid", "ID", "objid"),
    "tier": ("TIER",),
    "field": ("Field",),
    "ra": ("RA_TARG", "RA_NIRCam", "RA", "RAdeg", "RA_ICRS"),
    "dec": ("Dec_TARG", "Dec_NIRCam", "DEC", "DEdeg", "DEdec", "Dec_ICRS"),
    "redshift_grating": ("z_R1000",),
    "redshift": ("z_Spec", "zspec", "redshift", "z", "z_best"),
    "redshift_flag": ("z_Spec_flag", "z_flag", "zflag", "redshift_flag", "zqual"),
}


class CatalogueError(ValueError):
    """A catalogue that cannot be read; the text names file, HDU, column and the candidates found."""


@dataclass(frozen=True)
class ColumnMapping:
    """Columns of a catalogue, by role. A role left at None is looked for under its usual names.

    Attributes:
        redshift: best redshift.
        redshift_grating: redshift from the gratings, preferred where it is positive; not looked for if
            `redshift` is stated.
        redshift_flag: quality letter.
        unique_id: identifier that no other row has.
        source_id: identifier as in the spectrum's file.
        tier: survey tier.
        field: sky field.
        ra: right ascension [deg].
        dec: declination [deg].
        hdu: table extension, by name or number.
    """

    redshift: str | None = None
    redshift_grating: str | None = None
    redshift_flag: str | None = None
    unique_id: str | None = None
    source_id: str | None = None
    tier: str | None = None
    field: str | None = None
    ra: str | None = None
    dec: str | None = None
    hdu: str | None = None

    @classmethod
    def parse(cls, text: str) -> ColumnMapping:
        """From the command line's ``redshift=z_spec,ra=RA``.

        Raises:
            CatalogueError: for anything but known roles, each with a column.
        """
        known = [role.name for role in fields(cls)]
        stated: dict[str, str] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            role, separator, column = (piece.strip() for piece in part.partition("="))
            if not separator or not column or role not in known or role in stated:
                raise CatalogueError(
                    f"column mapping {text!r}: {part!r} is not understood; expected role=column, separated "
                    f"by commas, each role once, with the roles {', '.join(known)}."
                )
            stated[role] = column
        return cls(**stated)

    def __str__(self) -> str:
        """The text that `parse` takes."""
        stated = ((role.name, getattr(self, role.name)) for role in fields(self))
        return ",".join(f"{role}={column}" for role, column in stated if column is not None)

    def find(self, role: str, names: Sequence[str], where: str) -> str | None:
        """The column for a role; None if nothing was stated and no usual name is there.

        Args:
            role: one of `ALIASES`.
            names: columns of the table.
            where: file and HDU, for the error.

        Raises:
            CatalogueError: where the stated column is missing.
        """
        if role == "redshift_grating" and self.redshift is not None and self.redshift_grating is None:
            return None  # who names a redshift wants that one
        stated = getattr(self, role)
        lower = {name.lower(): name for name in names}
        if stated is None:
            return next((lower[alias.lower()] for alias in ALIASES[role] if alias.lower() in lower), None)
        if stated not in names and stated.lower() not in lower:
            raise CatalogueError(
                f"{where}: column {stated!r}, stated for {role}, is missing; the table has {listed(names)}."
            )
        return stated if stated in names else lower[stated.lower()]
