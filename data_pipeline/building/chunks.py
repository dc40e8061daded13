"""Chunks of finished objects on disk, from which a killed build resumes."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipeline.configuration import differences
from data_pipeline.pairs.matching import Dropped
from data_pipeline.records import ExampleCodec, Schema
from data_pipeline.records.shards import frame, read_records
from data_pipeline.writers.atomic import replacing, write_cure

WORK_FOLDER = ".building"


class ChunkStore:
    """Finished chunks of a build, below the output folder.

    A chunk is a TFRecord file with the rows that were kept and a JSON file with their splits and with what
    was dropped; the JSON file is renamed into place last and marks the chunk as finished.
    """

    def __init__(self, output: str | os.PathLike, schema: Schema):
        self.folder = Path(output) / WORK_FOLDER
        self._codec = ExampleCodec(schema)

    def open(self, settings: dict, fingerprint: str) -> None:
        """Start or continue a build.

        ``settings`` are JSON values, ``fingerprint`` a hash of the list of objects; a work folder of others
        is refused.

        Raises:
            FileExistsError: naming what differs, and how to start afresh.
        """
        state = {"config": settings, "objects": fingerprint}
        path = self.folder / "build.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before != state:
                raise FileExistsError(
                    f"{self.folder} holds an unfinished build with other settings "
                    f"({differences(before, state)}); repeat that command to finish it, delete the folder to "
                    "start afresh, or choose another --output"
                )
            return
        with self._explained(), replacing(path) as temporary:
            temporary.write_text(json.dumps(state, indent=1), encoding="utf-8")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the folder and the cure in errors of writing."""
        try:
            yield
        except OSError as error:
            text = f"could not write: {write_cure(error)}"
            raise OSError(error.errno, text, str(self.folder)) from error

    def _path(self, chunk: int, suffix: str) -> Path:
        return self.folder / f"chunk-{chunk:06d}.{suffix}"

    def finished(self, chunk: int) -> bool:
        """Whether a chunk is complete."""
        return self._path(chunk, "json").is_file()

    def write(
        self, chunk: int, rows: Sequence[dict[str, Any]], splits: Sequence[str], dropped: Sequence[Dropped]
    ) -> None:
        """Store a chunk: rows, the split of each, and what was dropped.

        Raises:
            OSError: disk full and the like, with the path and the cure.
        """
        with self._explained():
            with replacing(self._path(chunk, "tfrecord")) as temporary, open(temporary, "wb") as file:
                for row in rows:
                    payload = self._codec.serialise(row)
                    header, footer = frame(payload)
                    file.write(header + payload + footer)
            with replacing(self._path(chunk, "json")) as temporary:
                content = {"splits": list(splits), "dropped": [asdict(d) for d in dropped]}
                temporary.write_text(json.dumps(content), encoding="utf-8")

    def summary(self, chunk: int) -> tuple[list[str], list[Dropped]]:
        """Splits of the rows of a chunk, and what was dropped."""
        content = json.loads(self._path(chunk, "json").read_text(encoding="utf-8"))
        return content["splits"], [Dropped(**d) for d in content["dropped"]]

    def rows(self, chunk: int, split: str) -> Iterator[dict[str, Any]]:
        """Rows of a chunk that belong to a split."""
        splits, _ = self.summary(chunk)
        for payload, of in zip(read_records(self._path(chunk, "tfrecord")), splits, strict=True):
            if of == split:
                yield self._codec.parse(payload)

    def remove(self) -> None:
        """Delete the work folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
