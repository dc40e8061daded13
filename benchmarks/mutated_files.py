"""Files of every format, damaged at random: each is read, or refused with a text that names it."""

from __future__ import annotations

import bz2
import gzip
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import MaskedColumn, QTable

from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta
from data_pipeline.writers.spectrum_fits import write_spectrum
from kspecsr.surveys.inputs import resolved_columns
from kspecsr.surveys.rows import named_damage, read_rows
from kspecsr.surveys.tables import InputColumns

PIXELS = 60


@dataclass
class Outcome:
    """What came of the mutated files of one format.

    Attributes:
        read: files that were read.
        refused: files that were refused, by a text that names them.
        defects: any other error, or a text that does not name the file.
        slowest: longest time that one took [s].
    """

    read: int = 0
    refused: int = 0
    defects: list[str] = field(default_factory=list)
    slowest: float = 0.0


def _tables(names: Iterable[str], kinds: Iterable[str], units: Iterable[str | None], values, extension: str):
    columns = zip(names, kinds, units, values, strict=True)
    return fits.BinTableHDU.from_columns(
        [fits.Column(n, k, unit, array=v) for n, k, unit, v in columns], name=extension
    )


def _fits(path: Path, cards: dict, *hdus) -> None:
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    fits.HDUList([primary, *hdus]).writeto(path)


def write_originals(folder: Path) -> dict[str, Path]:
    """Sound files in twelve formats and packings, by name."""
    wavelength = np.linspace(0.6, 5.3, PIXELS)
    flux, error = np.full(PIXELS, 1e-20), np.full(PIXELS, 1e-21)
    flags = (np.arange(PIXELS) % 10 == 3).astype(np.int32)
    density, cards = "erg s-1 cm-2 Angstrom-1", {"TELESCOP": "JWST", "GRATING": "PRISM", "FILTER": "CLEAR"}
    kinds, units = ("D", "D", "D", "J"), ("um", density, density, None)
    values = (wavelength, flux, error, flags)
    paths = {
        name: folder / f"original{ending}"
        for name, ending in {
            **dict.fromkeys(("jades", "stsci", "dja", "euclid", "gto", "own", "table", "rows"), ".fits"),
            **{"fits.gz": ".fits.gz", "ecsv": ".ecsv", "ecsv.bz2": ".ecsv.bz2"},
        }.items()
    }
    paths = {name: path.with_name(f"{name.replace('.', '_')}-{path.name}") for name, path in paths.items()}
    both = [
        _tables(("WAVELENGTH", "FLUX", "FLUX_ERR"), kinds[:3], units[:3], values[:3], extension)
        for extension in ("EXTRACT5PIX1D", "EXTRACT3PIX1D")
    ]
    _fits(paths["jades"], {**cards, "HLSPID": "JADES"}, *both)
    jansky = ("um", "Jy", "Jy", None)
    pipeline = ("WAVELENGTH", "FLUX", "FLUX_ERROR", "DQ")
    _fits(paths["stsci"], cards, _tables(pipeline, kinds, jansky, values, "EXTRACT1D"))
    dja = _tables(("wave", "flux", "err", "valid"), kinds, ("um", "uJy", "uJy", None), values, "SPEC1D")
    dja.header["POLY0"] = 1.0
    _fits(paths["dja"], {}, dja)
    squared = (units[0], density, "erg2 s-2 cm-4 Angstrom-2", None)
    euclid = _tables(
        ("WAVELENGTH", "SIGNAL", "VAR", "MASK"), kinds, squared, (*values[:2], error**2, flags), "1"
    )
    euclid.header["FSCALE"] = 1.0
    _fits(paths["euclid"], {}, euclid)
    images = {"DATA": flux, "ERR": error, "EXTR3": flux, "EXTR3ERR": error, "WAVELENGTH": wavelength * 1e-6}
    hdus = [fits.ImageHDU(array, name=name) for name, array in images.items()]
    _fits(paths["gto"], {"FILETYPE": "R1D", "UNIT": "m-3 W", "GWA_POS": "PRISM"}, *hdus)
    write_spectrum(
        paths["own"], ObservedSpectrum(*values[:3], flags > 0, SpectrumMeta(disperser="PRISM")), {}
    )
    table = _tables(("wave", "flux", "error", "quality"), kinds, units, values, "SPECTRUM")
    table.header.update(TNULL4=-1, AIRORVAC="vacuum")
    _fits(paths["table"], cards, table)
    rows = [np.stack([column] * 3) for column in values]
    vectors = [f"{PIXELS}{kind}" for kind in kinds]
    _fits(paths["rows"], cards, _tables(pipeline, vectors, jansky, rows, "EXTRACT1D"))
    paths["fits.gz"].write_bytes(gzip.compress(paths["stsci"].read_bytes()))
    unit = u.Unit("erg / (s cm2 Angstrom)")
    text = QTable({"wavelength": wavelength * u.um, "flux": flux * unit, "error": error * unit}, meta=cards)
    text["dq"] = MaskedColumn(flags, mask=flags > 0)
    text.write(paths["ecsv"])
    paths["ecsv.bz2"].write_bytes(bz2.compress(paths["ecsv"].read_bytes()))
    paths["parquet"] = folder / "original.parquet"
    listed = {
        name: pa.array([list(v)] * 3)
        for name, v in zip(("wave", "flux", "error", "mask"), values, strict=True)
    }
    schema = pa.schema([(name, column.type) for name, column in listed.items()])
    schema = schema.with_metadata({"units": '{"wave": "um", "flux": "Jy", "error": "Jy"}'})
    pq.write_table(pa.table(listed, schema=schema), paths["parquet"])
    return paths


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """The bytes after damage of one or two kinds: flipped, cut, lost, doubled, zero, random, words."""
    data = bytearray(data)
    for _ in range(generator.integers(1, 3)):
        kind, place = generator.integers(8), int(generator.integers(max(len(data), 1)))
        length = int(generator.integers(1, 81))
        if kind == 0:
            data[place : place + 1] = bytes([generator.integers(256)])
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + 36 * length]
        elif kind == 4:
            data[place : place + length] = bytes(length)
        elif kind == 5:
            data[place : place + length] = generator.bytes(length)
        elif kind == 6:  # where the numbers of headers stand
            start = place // 80 * 80
            word = [b"-1", b"0", b"99999999", b"1E400", b"'text'", b"T", b"NaN", b"2880"][
                generator.integers(8)
            ]
            data[start + 10 : start + 30] = word.rjust(20)
        else:
            other = int(generator.integers(max(len(data) // 80, 1))) * 80
            start = place // 80 * 80
            data[start : start + 80], data[other : other + 80] = (
                data[other : other + 80],
                data[start : start + 80],
            )
    return bytes(data)


def read_parquet(path: Path) -> None:
    """All rows, as a survey reads them; a row that cannot be read is a failure, not an error."""
    with named_damage(path), pq.ParquetFile(path) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
    columns = resolved_columns(schema, InputColumns(), str(path))
    for one in read_rows(str(path), 0, min(count, 3), 0, columns):
        if one.reason and not one.reason.startswith(str(path)) and "Error" in one.reason.split(":")[0]:
            raise RuntimeError(one.reason)


def _read(name: str, path: Path) -> None:
    if name == "parquet":
        read_parquet(path)
    else:
        read_spectrum(path, row=1 if name == "rows" else None)


_PACKED = {"fits.gz": (gzip.decompress, gzip.compress), "ecsv.bz2": (bz2.decompress, bz2.compress)}


def try_files(n: int, seed: int, folder: Path, advance: Callable[[int], object]) -> dict[str, Outcome]:
    """Mutates and reads ``n`` files, of each format as many; returns the outcome per format."""
    originals, outcomes = write_originals(folder), {}
    generator, names = np.random.default_rng(seed), list(originals)
    contents = {name: path.read_bytes() for name, path in originals.items()}
    for name, path in originals.items():
        _read(name, path)
    for number in range(n):
        name = names[number % len(names)]
        outcome = outcomes.setdefault(name, Outcome())
        path = folder / originals[name].name.replace("original", "mutated")
        if (packed := _PACKED.get(name)) and number // len(
            names
        ) % 2:  # damage inside, that no checksum shows
            unpack, pack = packed
            path.write_bytes(pack(mutated(unpack(contents[name]), generator)))
        else:
            path.write_bytes(mutated(contents[name], generator))
        begin = time.perf_counter()
        try:
            _read(name, path)
            outcome.read += 1
        except SpectrumError as error:
            if str(path) not in str(error):
                outcome.defects.append(f"{number}: names no file: {error}")
            outcome.refused += 1
        except Exception as error:  # what this looks for
            outcome.defects.append(f"{number}: {type(error).__name__}: {error}")
        outcome.slowest = max(outcome.slowest, time.perf_counter() - begin)
        advance(1)
    return outcomes


def as_text(outcomes: dict[str, Outcome]) -> str:
    """A line per format, and the defects."""
    head = f"{'format':<10} {'files':>6} {'read':>6} {'refused':>8} {'defects':>8} {'slowest':>9}"
    lines, total = [head], Counter()
    for name, one in outcomes.items():
        counts = {"read": one.read, "refused": one.refused, "defects": len(one.defects)}
        total.update(counts)
        numbers = f"{counts['read']:>6} {counts['refused']:>8} {counts['defects']:>8}"
        lines.append(f"{name:<10} {sum(counts.values()):>6} {numbers} {one.slowest:>7.2f} s")
    numbers = f"{total['read']:>6} {total['refused']:>8} {total['defects']:>8}"
    lines.append(f"{'all':<10} {sum(total.values()):>6} {numbers}")
    return "\n".join([*lines, *(f"{name} {text}" for name, one in outcomes.items() for text in one.defects)])
