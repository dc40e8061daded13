"""Work on one partition: from inputs to tables, a batch of the networks at a time."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import kspecsr
from kspecsr.gratings.joint import join
from kspecsr.model_settings import weights_hash
from kspecsr.results.prism_input import prism_wavelength
from kspecsr.results.resolver import Resolver, named_backend_errors, redshifts_of
from kspecsr.surveys.output import PartitionWriter, SurveyError, is_done, write_grids
from kspecsr.surveys.reading import read_partition
from kspecsr.surveys.result_rows import failure_rows, line_rows, object_rows, ratio_rows, spectrum_rows
from kspecsr.surveys.tables import (
    CHUNK,
    FAILURES,
    LINES,
    NOT_RESOLVED,
    OBJECTS,
    RATIOS,
    SPECTRA,
    SurveyInput,
    SurveySettings,
)

if TYPE_CHECKING:
    from kspecsr.results.result import Result
    from kspecsr.super_resolver import SuperResolver

# `SuperResolver` runs fewer spectra in a smaller batch, depending on what it ran before; a partition must not
# depend on that, to the last bit.
LEAST = 9
_ODD = (ValueError, ArithmeticError, LookupError, TypeError)  # errors that one odd spectrum may cause
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_LOCK = threading.Lock()  # one model per process, whatever the number of its threads


@dataclass(frozen=True)
class PartitionReport:
    """Summary of a partition.

    Attributes:
        partition: number of the partition.
        objects: number of results.
        failures: number of inputs without one.
        flagged: number of objects without lines.
        reading: time of reading [s].
        networks: time of the networks and the interpretation of their outputs [s].
        writing: time of writing [s].
        core: time that the process spent on a core, all threads together [s].
        bytes: size of the written files.
        resident: memory of the process at the end [bytes].
        peak: largest memory that the process ever had [bytes].
        process: host and process number.
        skipped: whether the partition existed already.
    """

    partition: int
    objects: int = 0
    failures: int = 0
    flagged: int = 0
    reading: float = 0.0
    networks: float = 0.0
    writing: float = 0.0
    core: float = 0.0
    bytes: int = 0
    resident: int = 0
    peak: int = 0
    process: str = ""
    skipped: bool = False


def load_resolver(model: str, sha256: str, threads: int, precision: str = "float32") -> SuperResolver:
    """The model of this process, loaded once.

    Args:
        model: folder.
        sha256: that its weights must have.
        threads: of TensorFlow, where this process has not started it yet; 0 leaves it alone.
        precision: as of `kspecsr.load`.

    Raises:
        SurveyError: for other weights.
    """
    with _LOCK:
        return _resolver(model, sha256, threads, precision)


@lru_cache(maxsize=1)
def _resolver(model: str, sha256: str, threads: int, precision: str) -> SuperResolver:
    # Before TensorFlow is loaded: the wrong model on one of a hundred workers must not cost a minute on each
    # retry.
    found = weights_hash(model)
    if found != sha256:
        raise SurveyError(
            f"{model}: weights of SHA-256 {found[:12]}, this run has {sha256[:12]}; expected the same model "
            "on every worker and until the end of the run"
        )
    if threads:  # read when TensorFlow starts
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
        os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    return kspecsr.load(model, precision)


def process_partition(
    folder: str, settings: SurveySettings, partition: int, expected: int, model: str, threads: int
) -> PartitionReport:
    """Makes all tables of a partition, unless they are there.

    Args:
        folder: of the output, as the workers see it.
        settings: of the run.
        partition: its number.
        expected: inputs in it.
        model: folder, as the workers see it.
        threads: of TensorFlow per worker process.

    Raises:
        SurveyError: for other weights than the run's, or inputs that went missing.
        NetworkError: where memory is full, and the like.
        OSError: where the output cannot be written.
    """
    output = Path(folder)
    # Asked again on the worker: Dask hands a task out twice where it took a worker for lost.
    if is_done(output, settings, partition, expected):
        return PartitionReport(partition, skipped=True)
    resolver = load_resolver(model, settings.model_sha256, threads, settings.precision)
    if partition == 0:
        write_grids(output, resolver.identity.grid.wavelength, prism_wavelength(), resolver.redshift_bins)
    core = time.process_time()
    counts = {"objects": 0, "failures": 0, "flagged": 0}
    seconds = {"reading": 0.0, "networks": 0.0, "writing": 0.0}
    with PartitionWriter(output, settings, partition) as writer:
        for chunk in _chunks(read_partition(output, settings, partition), seconds):
            started = time.perf_counter()
            # Keras' predict is not safe between threads, and two batches at once would double the memory.
            with _LOCK, named_backend_errors():
                resolved = resolve(
                    resolver, [one for one in chunk if one.spectrum is not None], settings.keep_flagged
                )
            seconds["networks"] += time.perf_counter() - started
            started = time.perf_counter()
            good = [one for one, result in resolved if result is not None]
            made = [result for _, result in resolved if result is not None]
            bad = [one for one in chunk if one.spectrum is None]
            bad += [one for one, result in resolved if result is None]
            # By the input, not by what failed first: the bytes of a table must not depend on how it came
            # about.
            bad.sort(key=lambda one: one.input_row)
            writer.add(OBJECTS, object_rows(good, made, writer.schemas[OBJECTS]))
            writer.add(LINES, line_rows(good, made, writer.schemas[LINES]))
            if settings.joint_lines:
                writer.add(RATIOS, ratio_rows(good, made, writer.schemas[RATIOS]))
            writer.add(FAILURES, failure_rows(bad, writer.schemas[FAILURES]))
            if settings.spectra:
                writer.add(SPECTRA, spectrum_rows(good, made, writer.schemas[SPECTRA]))
            counts["objects"] += len(good)
            counts["failures"] += len(bad)
            counts["flagged"] += sum(bool(r.flags) and not r.lines_kept for r in made)
            seconds["writing"] += time.perf_counter() - started
        # Inside the block: the tables must not appear.
        if counts["objects"] + counts["failures"] != expected:
            raise SurveyError(
                f"partition {partition}: {counts['objects'] + counts['failures']} inputs found, {expected} "
                "planned; an input file was cut since the run began. Restore it, or choose another --output."
            )
        started = time.perf_counter()
    seconds["writing"] += time.perf_counter() - started
    return PartitionReport(
        partition,
        **counts,
        **seconds,
        core=time.process_time() - core,
        bytes=writer.bytes,
        resident=psutil.Process().memory_info().rss,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT,
        process=f"{os.uname().nodename}:{os.getpid()}",
    )


def _chunks(inputs: Iterator[SurveyInput], seconds: dict[str, float]) -> Iterator[list[SurveyInput]]:
    while True:
        started = time.perf_counter()
        chunk = list(islice(inputs, CHUNK))
        seconds["reading"] += time.perf_counter() - started
        if not chunk:
            return
        yield chunk


def resolve(
    resolver: SuperResolver, inputs: Sequence[SurveyInput], keep_flagged: bool = False
) -> list[tuple[SurveyInput, Result | None]]:
    """Results of up to `CHUNK` inputs; one without a result comes back as a failure."""
    if not inputs:
        return []
    try:
        return list(zip(inputs, _resolved(resolver, inputs, keep_flagged), strict=True))
    # One by one would meet it again, slowly; a partition that fails is tried elsewhere.
    except MemoryError:
        raise
    except _ODD as error:
        if len(inputs) == 1:
            return [(inputs[0].failed(NOT_RESOLVED, error), None)]
    # one of them is at fault: found one by one
    return [pair for one in inputs for pair in resolve(resolver, [one], keep_flagged)]


def _resolved(resolver: SuperResolver, inputs: Sequence[SurveyInput], keep_flagged: bool) -> list[Result]:
    full, results = _FullBatches(resolver), {}
    if alone := [one for one in inputs if one.joint is None]:
        spectra, given = [one.spectrum for one in alone], [one.redshift for one in alone]
        results |= zip(map(id, alone), full.resolve(spectra, given, keep_flagged), strict=True)
    if joint := [one for one in inputs if one.joint is not None]:
        results |= zip(map(id, joint), join(full, [one.joint for one in joint], keep_flagged), strict=True)
    return [results[id(one)] for one in inputs]


class _FullBatches(Resolver):
    """A resolver that never runs a small batch."""

    def __init__(self, resolver: SuperResolver):
        self._resolver = resolver
        self.identity, self.redshift_bins = resolver.identity, resolver.redshift_bins

    def resolve(self, inputs, redshift=None, keep_flagged=False) -> list[Result]:
        """See `Resolver.resolve`."""
        missing, given = max(LEAST - len(inputs), 0), redshifts_of(redshift, len(inputs))
        padded = [*inputs, *[inputs[-1]] * missing], [*given, *given[-1:].repeat(missing)]
        return self._resolver.resolve(*padded, keep_flagged)[: len(inputs)]
