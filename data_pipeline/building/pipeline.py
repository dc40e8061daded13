"""The build itself: plan, process in chunks, expand into shards, write the manifest."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.building.chunks import ChunkStore
from data_pipeline.building.row import Expansion
from data_pipeline.building.sources import ArchiveSource, BuildConfig, SimulationSource, Source
from data_pipeline.configuration import to_dict
from data_pipeline.lines import load_lines
from data_pipeline.pairs.matching import Dropped
from data_pipeline.pairs.sky_groups import SPLITS
from data_pipeline.progress import Progress
from data_pipeline.records import Manifest, Schema, Shard, ShardWriter, StepCount, record_schema, shard_count
from data_pipeline.records.shards import MANIFEST_NAME
from data_pipeline.workers import OrderedMap, worker_pool


@dataclass(frozen=True)
class BuildResult:
    """Records, dropped objects, and how many chunks an earlier, interrupted run had finished."""

    manifest: Manifest
    dropped: tuple[Dropped, ...]
    resumed: int


@dataclass(frozen=True)
class _ChunkTask:
    """Process one chunk in a worker and store it."""

    source: Source
    output: str
    schema: Schema

    def __call__(self, chunk: int) -> int:
        ChunkStore(self.output, self.schema).write(chunk, *self.source.process(chunk))
        return chunk


def build(
    config: BuildConfig, output: str | os.PathLike, workers: int = 1, quiet: bool = False
) -> BuildResult:
    """Build records; an interrupted build of the same settings is resumed.

    Raises:
        FileExistsError: where finished records, or an unfinished build of other settings, lie there.
        ValueError: where no object is left for the training part.
    """
    if workers < 1:
        raise ValueError(f"build: expected 1 or more workers, got {workers}")
    if (Path(output) / MANIFEST_NAME).is_file():
        raise FileExistsError(
            f"{output} holds finished records ({MANIFEST_NAME}); choose another --output or remove the folder"
        )

    def bar(items, **options):
        return Progress(items, disable=quiet, dynamic_ncols=True, **options)

    schema = record_schema(config.preprocessing.grid, line_names=load_lines(config.lines).names)
    source: Source = (
        ArchiveSource.plan(config, lambda files: bar(files, desc="scan", unit="file"))
        if config.source == "archive"
        else SimulationSource(config)
    )
    store = ChunkStore(output, schema)
    store.open(to_dict(config), source.fingerprint)
    try:
        with worker_pool(workers) as pool:
            resumed = _process(source, store, _ChunkTask(source, str(output), schema), pool, bar)
            dropped, counts = _kept(source, store)
            grid = config.preprocessing.grid
            expansion = Expansion(str(output), schema, grid, config.augmentation, config.seed)
            shards = {
                split: _write_split(split, counts[split], expansion, len(source.chunks), pool, bar)
                for split in SPLITS
            }
    except ValueError:
        store.remove()  # no repetition could finish this build
        raise
    manifest = Manifest(
        schema=schema,
        grid=grid,
        line_names=load_lines(config.lines).names,
        splits=shards,
        seeds={"build": config.seed, "split": config.split.seed},
        split_settings=to_dict(config.split),
        augmentation=to_dict(config.augmentation),
        source={**source.description, "config": to_dict(config)},
        steps=step_counts(source.steps, dropped, sum(counts.values())),
    )
    # In this order: killed between the two, the next start finds finished records, not an unfinished build.
    manifest.write(output)
    store.remove()
    return BuildResult(manifest, tuple(dropped), resumed)


def _process(source: Source, store: ChunkStore, task: _ChunkTask, pool: OrderedMap, bar: Callable) -> int:
    """Process the chunks that are missing; return how many were there already."""
    sizes = source.chunks
    missing = [chunk for chunk in range(len(sizes)) if not store.finished(chunk)]
    done = sum(sizes) - sum(sizes[i] for i in missing)
    with bar(None, desc="pairs", unit="galaxy", total=sum(sizes), initial=done) as progress:
        for chunk in pool(task, missing):
            progress.update(sizes[chunk])
    return len(sizes) - len(missing)


def _kept(source: Source, store: ChunkStore) -> tuple[list[Dropped], Counter[str]]:
    """Every dropped object, and the number of kept ones per split."""
    dropped, counts = [*source.dropped], Counter()
    for chunk in range(len(source.chunks)):
        splits, lost = store.summary(chunk)
        counts.update(splits)
        dropped += lost
    # Before hours of expanding: a build without a training part is of no use.
    if not counts["train"]:
        listed = "; ".join(f"{d.unique_id}: {d.step}: {d.reason}" for d in dropped[:3]) or "none dropped"
        raise ValueError(
            f"no object is left for the training part ({dict(counts)} kept; {listed}); give more galaxies or "
            "loosen the cuts"
        )
    return dropped, counts


def _write_split(
    split: str, n_objects: int, expansion: Expansion, n_chunks: int, pool: OrderedMap, bar: Callable
) -> tuple[Shard, ...]:
    copies = expansion.copies(split)
    rows = n_objects * (copies + 1)
    if not rows:
        return ()
    tasks = list(expansion.tasks(split, n_chunks))
    with (
        ShardWriter(expansion.output, split, expansion.schema, shard_count(rows, expansion.schema)) as writer,
        bar(None, desc=f"{split} records", unit="row", total=rows) as progress,
    ):
        # Plain copies are faster than handing them to a process.
        for payloads in pool(expansion.rows, tasks) if copies else map(expansion.rows, tasks):
            for payload in payloads:
                writer.write_serialised(payload)
            progress.update(len(payloads))
    return writer.shards


def step_counts(steps: Sequence[str], dropped: Sequence[Dropped], kept: int) -> tuple[StepCount, ...]:
    """Objects kept and dropped by each step, from the first to the last."""
    by_step: dict[str, Counter[str]] = {step: Counter() for step in steps}
    for item in dropped:
        # Up to the colon a reason is the same for all; behind it are the numbers of the one object.
        by_step.setdefault(item.step, Counter())[item.reason.split(":")[0]] += 1
    left = kept + len(dropped)
    table = []
    for step, reasons in by_step.items():
        left -= reasons.total()
        table.append(StepCount(step, left, reasons.total(), dict(reasons)))
    return tuple(table)
