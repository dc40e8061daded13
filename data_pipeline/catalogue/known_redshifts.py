"""Redshifts that the user knows: one for all, or a column of a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.catalogue.table import CatalogueError, CatalogueTable, open_tables
from data_pipeline.readers.columns import first_of
from data_pipeline.readers.source import stem_of
from data_pipeline.spectrum import SpectrumMeta

LARGEST = 30.0
# columns that name a file or an object, the first that is there; case is ignored
KEY_COLUMNS = (
    *("file", "filename", "file_name", "path", "prism_file", "prism", "name"),
    *("unique_id", "target", "srcname", "source_id", "nirspec_id", "objid", "id"),
)


@dataclass(frozen=True)
class KnownRedshifts:
    """Redshifts by file or object.

    Attributes:
        constant: for every spectrum; NaN for none.
        by_key: file name, file name without ending, target or id, to redshift.
        ambiguous: keys that several rows with different redshifts share.
        where: table they are from, for error texts.
        option: option of the command line, for error texts.
    """

    constant: float = math.nan
    by_key: Mapping[str, float] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()
    where: str = ""
    option: str = "--redshift"

    @classmethod
    def parse(cls, text: str, option: str = "--redshift") -> KnownRedshifts:
        """From the command line: a number, ``TABLE:COLUMN`` or ``TABLE:COLUMN:KEY``.

        The key column holds file names or object ids; without KEY it is the first of `KEY_COLUMNS` that the
        table has.

        In a table, values outside 0 to 30 mean unknown: catalogues write -1 (JADES), -99 or 99. ``option`` is
        named in error texts; an empty text knows none.

        Raises:
            ValueError: for anything else, a single redshift outside 0-30, a table that cannot be read, or a
                column without any redshift.
        """
        if not text:
            return cls(option=option)
        try:
            value = float(text)
        except ValueError:
            return cls._from_table(text, option)
        if not 0 <= value <= LARGEST:
            raise ValueError(f"{option}: expected a redshift from 0 to {LARGEST:g}, got {value:g}")
        return cls(constant=value, option=option)

    @classmethod
    def _from_table(cls, text: str, option: str) -> KnownRedshifts:
        path, column, key = _split(text, option)
        with open_tables(path) as tables:
            table = _holding(tables, column, path)
            key = _key_column(table, key, option)
            by_key: dict[str, float] = {}
            ambiguous: set[str] = set()
            for name, value in zip(table.texts(key), table.numbers(column), strict=True):
                if not name or not 0 <= value <= LARGEST:  # NaN is neither
                    continue
                for form in {name, Path(name).name, stem_of(name)}:
                    if by_key.setdefault(form, float(value)) != value:
                        ambiguous.add(form)
            if not by_key:
                raise CatalogueError(
                    f"{table.where}: column {column} holds no redshift from 0 to {LARGEST:g} beside a name "
                    f"in column {key}; state other columns: {option} TABLE:COLUMN:KEY"
                )
            return cls(by_key=by_key, ambiguous=frozenset(ambiguous), where=table.where, option=option)

    def of(self, path: Path, meta: SpectrumMeta) -> float:
        """Redshift of a spectrum; NaN where none is known.

        Target and id are tried after the file's name.

        Raises:
            ValueError: if rows with different redshifts have its name.
        """
        if not self.by_key:
            return self.constant
        for name in _names(path, meta):
            if name in self.ambiguous:
                raise ValueError(
                    f"{path}: {self.where} has several rows with different redshifts for {name!r}; use a key "
                    f"column that is unique, such as file names: {self.option} TABLE:COLUMN:KEY"
                )
            if name in self.by_key:
                return self.by_key[name]
        return math.nan


def _names(path: Path, meta: SpectrumMeta) -> Iterator[str]:
    yield from (str(path), path.name, stem_of(path))
    if meta.tier and meta.source_id:
        yield f"{meta.tier}_{meta.source_id}"
    yield from filter(None, (meta.target, meta.source_id))


def _split(text: str, option: str) -> tuple[str, str, str]:
    """Table, column and key; a table's path may hold colons itself."""
    parts = text.split(":")
    for count in (1, 2):
        table, rest = ":".join(parts[:-count]), parts[-count:]
        if Path(table).is_file() and all(rest):
            return table, rest[0], rest[1] if count == 2 else ""
    if len(parts) < 2:
        raise ValueError(f"{option} {text}: expected a number, or TABLE:COLUMN such as redshifts.csv:z_spec")
    raise ValueError(f"{option} {text}: {parts[0]} is no file; expected TABLE:COLUMN or TABLE:COLUMN:KEY")


def _holding(tables: Mapping[str, CatalogueTable], column: str, path: str) -> CatalogueTable:
    for table in tables.values():
        if column in table.names:
            return table
    known = "; ".join(f"{name or 'table'}: {', '.join(table.names)}" for name, table in tables.items())
    raise CatalogueError(f"{path}: no column {column}; it has {known or 'no table'}.")


def _key_column(table: CatalogueTable, key: str, option: str) -> str:
    if key and key not in table.names:
        raise CatalogueError(f"{table.where}: no column {key}; it has {', '.join(table.names)}.")
    found = key or first_of(KEY_COLUMNS, table.names)
    if found is None:
        raise CatalogueError(
            f"{table.where}: none of its columns {', '.join(table.names)} is known to name files or objects "
            f"({', '.join(KEY_COLUMNS)}); state it: {option} TABLE:COLUMN:KEY"
        )
    return found
