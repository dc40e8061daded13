"""The table of objects as a HATS catalogue: by HEALPix pixels, for lsdb and whatever else reads HATS."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import Latitude, Longitude

from kspecsr.surveys.output import part_path
from kspecsr.surveys.tables import OBJECTS, SurveySettings, table_schema

INDEX = "_healpix_29"
_INDEX_ORDER, _FINEST = 29, 10
MOST_ROWS = 500_000  # of a pixel's file, unless it is one of the finest
_DIRECTORY = 10_000  # pixels that share a folder


def write_hats(folder: Path, settings: SurveySettings, most_rows: int = MOST_ROWS) -> str:
    """Writes ``hats/`` from the objects of a complete run; what is there stays.

    Objects without a position are left out. One partition and one pixel are in memory at a time.

    Args:
        folder: of the output.
        settings: of the run.
        most_rows: of a pixel's file.

    Returns:
        One line on what was done.
    """
    target = folder / "hats"
    if (target / "hats.properties").is_file():
        return f"{target}: there already"
    counts: dict[int, int] = {}
    total = 0
    for table in _indexed(folder, settings):
        total += table.num_rows
        pixels = table[INDEX].to_numpy() >> 2 * (_INDEX_ORDER - _FINEST)
        for pixel, count in zip(*np.unique(pixels, return_counts=True), strict=True):
            counts[int(pixel)] = counts.get(int(pixel), 0) + int(count)
    if not total:
        return "no positions known, so no hats/ was written"
    temporary = folder / ".hats.part"
    shutil.rmtree(temporary, ignore_errors=True)
    pixels = _pixels(counts, most_rows)
    _distribute(folder, settings, temporary, pixels)
    _finish(temporary, pixels)
    _describe(temporary, folder.resolve().name, total, pixels)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)
    return f"{target}: {total} objects in {len(pixels)} pixels"


def _indexed(folder: Path, settings: SurveySettings) -> Iterator[pa.Table]:
    """Objects with a position, partition by partition, their HEALPix index first."""
    # 0.1 s, and of the survey extra: not where no catalogue is written
    from cdshealpix.nested import lonlat_to_healpix

    for partition in range(settings.partitions):
        table = pq.read_table(part_path(folder, OBJECTS, partition))
        ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
        placed = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
        table, ra, dec = table.filter(pa.array(placed)), ra[placed], dec[placed]
        if table.num_rows == 0:
            continue
        index = lonlat_to_healpix(Longitude(ra * u.deg), Latitude(dec * u.deg), _INDEX_ORDER)
        yield table.add_column(0, pa.field(INDEX, pa.int64()), pa.array(index.astype(np.int64)))


def _pixels(counts: dict[int, int], most_rows: int) -> list[tuple[int, int]]:
    """Order and number of pixels that hold the objects, each as large as ``most_rows`` allows."""
    # Counted once at the finest order and added up four by four: the data are not read again for each order.
    by_order = {_FINEST: counts}
    for order in range(_FINEST - 1, -1, -1):
        coarse: dict[int, int] = {}
        for pixel, count in by_order[order + 1].items():
            coarse[pixel >> 2] = coarse.get(pixel >> 2, 0) + count
        by_order[order] = coarse
    found, pending = [], [(0, pixel) for pixel in by_order[0]]
    while pending:
        order, pixel = pending.pop()
        if by_order[order][pixel] <= most_rows or order == _FINEST:
            found.append((order, pixel))
        else:
            children = range(4 * pixel, 4 * pixel + 4)
            pending += [(order + 1, child) for child in children if child in by_order[order + 1]]
    return sorted(found, key=lambda one: one[1] << 2 * (_INDEX_ORDER - one[0]))


def _path(root: Path, order: int, pixel: int) -> Path:
    place = f"Norder={order}/Dir={pixel // _DIRECTORY * _DIRECTORY}/Npix={pixel}.parquet"
    return root / "dataset" / place


def _schema(settings: SurveySettings) -> pa.Schema:
    return table_schema(OBJECTS, settings).insert(0, pa.field(INDEX, pa.int64()))


def _distribute(folder, settings, root: Path, pixels: list[tuple[int, int]]) -> None:
    """Appends every partition's rows to the files of their pixels."""
    starts = np.array([pixel << 2 * (_INDEX_ORDER - order) for order, pixel in pixels])
    schema, writers = _schema(settings), {}
    try:
        for table in _indexed(folder, settings):
            # Pixels of different orders tile the sphere in the order of their finest index: the last one that
            # starts before an object holds it.
            owner = np.searchsorted(starts, table[INDEX].to_numpy(), "right") - 1
            for k in np.unique(owner):
                if k not in writers:
                    path = _path(root, *pixels[k])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    writers[k] = pq.ParquetWriter(path, schema, compression="zstd")
                writers[k].write_table(table.filter(pa.array(owner == k)).cast(schema))
    finally:
        for writer in writers.values():
            writer.close()


def _finish(root: Path, pixels: list[tuple[int, int]]) -> None:
    """Sorts each pixel's rows by their index, and writes ``_metadata`` and ``_common_metadata``."""
    collected = []
    for order, pixel in pixels:
        path = _path(root, order, pixel)
        # By input row too, so that a resumed run writes the same bytes.
        table = pq.ParquetFile(path).read().sort_by([(INDEX, "ascending"), ("input_row", "ascending")])
        pq.write_table(table, path, compression="zstd")
        metadata = pq.read_metadata(path)
        metadata.set_file_path(str(path.relative_to(root / "dataset")))
        collected.append(metadata)
        schema = table.schema
    pq.write_metadata(schema, root / "dataset" / "_common_metadata")
    combined = collected[0]
    for metadata in collected[1:]:
        combined.append_row_groups(metadata)
    combined.write_metadata_file(root / "dataset" / "_metadata")


def _describe(root: Path, name: str, total: int, pixels: list[tuple[int, int]]) -> None:
    rows = "".join(f"{order},{pixel}\n" for order, pixel in pixels)
    (root / "partition_info.csv").write_text(f"Norder,Npix\n{rows}", encoding="utf-8")
    properties = {
        "obs_collection": name or "survey",
        "dataproduct_type": "object",
        "hats_nrows": total,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": INDEX,
        "hats_col_healpix_order": _INDEX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_order": max(order for order, _ in pixels),
        "hats_version": "v1.0",
        "hats_builder": "kspecsr.survey",
    }
    text = "".join(f"{key}={value}\n" for key, value in properties.items())
    for file in ("properties", "hats.properties"):  # the old name and the new one
        (root / file).write_text(f"#HATS catalog\n{text}", encoding="utf-8")
