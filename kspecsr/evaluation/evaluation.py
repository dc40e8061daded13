"""The evaluation as a whole: measure, draw, summarise, judge, write."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path

from data_pipeline.command_line import suppress_startup_stderr
from data_pipeline.configuration import json_hash, software_versions
from data_pipeline.progress import Progress
from data_pipeline.writers.atomic import replacing
from kspecsr.evaluation.figure_set import FigureSet
from kspecsr.evaluation.figures.examples import Example, choose_examples, held_out_example
from kspecsr.evaluation.grating_spectra import GratingHeldOut
from kspecsr.evaluation.methods import POSTERIOR, EvaluationConfig, reconstructions
from kspecsr.evaluation.population_posterior import PopulationPosterior
from kspecsr.evaluation.real_pairs import PairFiles, real_section
from kspecsr.evaluation.report import Report, identical_section
from kspecsr.evaluation.sources import SURVEY, HeldOutSource, RecordedHeldOut, SimulatedHeldOut
from kspecsr.evaluation.store import Chunk, ChunkStore, galaxies_at, measure_galaxies
from kspecsr.evaluation.topics import (
    PRIOR,
    PRIOR_TOPIC,
    Metrics,
    measure_methods,
    summarise_methods,
    summarise_prior,
)
from kspecsr.measures.gate import SHIPPED, Gate, shipped_gate, values_of
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.methods.tuned import default_baselines
from kspecsr.model_settings import read_settings, weights_hash
from kspecsr.super_resolver import SuperResolver

# Version of what is measured: chunks stored under another number are measured again.
MEASUREMENT_VERSION = 6
_PRIOR_METHODS = ("direct_fit", "sr2", "sr2_known_z")


class Evaluation:
    """Evaluation of one model.

    Args:
        model: model folder.
        output: folder of the report.
        config: settings.
        records: directory of records; None for simulated galaxies.
        gratings: folder of real grating spectra that are seen through the prism instead.
        quiet: no progress bars.

    Attributes:
        unread: error texts of real spectra that could not be read.
    """

    def __init__(
        self,
        model: Path,
        output: Path,
        config: EvaluationConfig,
        records: Path | None = None,
        gratings: Path | None = None,
        quiet: bool = False,
    ):
        self.model, self.output, self.config, self.quiet = Path(model), Path(output), config, quiet
        self.settings = read_settings(model)
        self.model_hash = weights_hash(model)
        grid, lines = self.settings.grid, self.settings.preset.model.lines
        self.source: HeldOutSource
        if gratings is not None:
            self.source = GratingHeldOut(gratings, grid, config.seed, lines=lines)
        elif records is not None:
            self.source = RecordedHeldOut(records, grid, config.split, lines=lines)
        else:
            feed = replace(SURVEY, population=config.population, lines=lines)
            self.source = SimulatedHeldOut(grid, config.seed, feed)
        self._baselines = {one.name: one for one in default_baselines()}
        self.unread: list[str] = []
        self.metrics: Metrics = {}

    @property
    def population(self) -> str:
        """That of simulated galaxies; empty for others."""
        return self.config.population if isinstance(self.source, SimulatedHeldOut) else ""

    @property
    def page(self) -> Path:
        """The report."""
        return self.output / "report.html"

    @cached_property
    def networks(self) -> SuperResolver:
        """The model, loaded."""
        with suppress_startup_stderr():
            return SuperResolver.from_folder(self.model)

    @cached_property
    def population_posterior(self) -> PopulationPosterior:
        """Oracle of the prior response, of the population that the model was trained on."""
        return PopulationPosterior(self.settings.preset.feed, self.settings.grid)

    def run(
        self,
        gate: Gate,
        gate_name: str,
        files: Sequence[str] = (),
        pairs: Sequence[PairFiles] = (),
        identical: Path | None = None,
        command: str = "",
    ) -> list[str]:
        """Runs the evaluation and writes its report; returns the limits that were broken.

        Args:
            gate: limits to keep.
            gate_name: name of the gate on the page.
            files: real prism spectra.
            pairs: real prism spectra with gratings.
            identical: output of ``kspecsr identical-networks``; None for the folder
                ``identical`` in the output, if it is there.
            command: command line that makes this page.
        """
        galaxies, prior = self.measure(gate)
        failures = gate.failures(self.values(), self.population)
        self._write_metrics(galaxies, gate_name, failures, command)
        shown = "sr2" if "sr2" in self.config.methods else self.config.methods[-1]
        figures = FigureSet(
            galaxies, self.metrics, self.settings.grid, shown, self._examples(galaxies, shown), prior
        )
        with self._bar("figures", 6 + bool(files or pairs), "section") as bar:
            sections = figures.sections(self.output / "figures", bar.update)
            compared = identical_section(identical or self.output / "identical", self.model_hash)
            if compared is not None:
                sections.append(compared)
            if files or pairs:
                section, self.unread = real_section(
                    self.networks, files, pairs, self.output / "figures" / "real"
                )
                sections.append(section)
                bar.update()
        self._report(sections, len(galaxies), gate, gate_name, failures, command).write(self.page)
        return failures

    def measure(self, gate: Gate) -> tuple[Chunk, Chunk | None]:
        """Measures galaxies and prior response, and sums them up in `metrics`.

        Args:
            gate: figures of parts that have a limit are among the metrics.
        """
        galaxies, prior = self._galaxies(), self._prior()
        self._summarise(galaxies, prior, gate)
        return galaxies, prior

    def values(self) -> dict[str, float]:
        """``METHOD/METRIC`` to value."""
        return values_of(self.metrics)

    def _galaxies(self) -> Chunk:
        store = ChunkStore(self.output / "measured", self._fingerprint("galaxies"))
        with self._bar("measure", self.config.n, "galaxy") as bar:
            return measure_galaxies(
                self.source,
                self.config.n,
                lambda held_out: measure_methods(held_out, self._reconstruct(held_out)),
                store,
                bar.update,
            )

    def _prior(self) -> Chunk | None:
        methods = [name for name in _PRIOR_METHODS if name in self.config.methods]
        simulated = isinstance(self.source, SimulatedHeldOut)
        if not (self.config.prior_galaxies and methods and simulated):
            return None
        methods.append(POSTERIOR)
        store = ChunkStore(self.output / "measured" / PRIOR, self._fingerprint(PRIOR))

        def measure(held_out: HeldOut) -> dict:
            return {
                name: {
                    PRIOR: PRIOR_TOPIC.measure(held_out, self._one(name, held_out), partial(self._one, name))
                }
                for name in methods
            }

        with self._bar("prior response", self.config.prior_galaxies, "galaxy") as bar:
            return measure_galaxies(self.source, self.config.prior_galaxies, measure, store, bar.update)

    def _one(self, name: str, held_out: HeldOut) -> Reconstruction:
        if name == POSTERIOR:
            return self.population_posterior.reconstruct(held_out)
        return self._reconstruct(held_out, [name])[name]

    def _reconstruct(self, held_out: HeldOut, methods: Sequence[str] = ()) -> dict[str, Reconstruction]:
        methods = methods or self.config.methods
        return reconstructions(held_out, methods, self.networks, self._baselines)

    def _summarise(self, galaxies: Chunk, prior: Chunk | None, gate: Gate) -> None:
        gates = (gate, *map(shipped_gate, SHIPPED))  # a model card lists what is broken of those that ship
        names = None if self.config.all_splits else set().union(*(one.metrics for one in gates))
        resamples = self.config.resamples
        with self._bar("summarise", len(self.config.methods), "method") as bar:
            self.metrics = summarise_methods(galaxies, names, resamples, lambda method: bar.update())
        for method, found in (summarise_prior(prior, names, resamples) if prior else {}).items():
            self.metrics[method] = self.metrics.get(method, {}) | found

    def _examples(self, galaxies: Chunk, shown: str) -> list[Example]:
        measured = galaxies.measured[shown]["spectrum"]
        chosen = choose_examples(measured)
        by_position = dict(
            zip(sorted(chosen.values()), galaxies_at(self.source, list(chosen.values())), strict=True)
        )
        return [
            held_out_example(
                name,
                by_position[place],
                self._reconstruct(by_position[place], [shown])[shown],
                float(measured["scale_free_core"][place]),
            )
            for name, place in chosen.items()
        ]

    def _fingerprint(self, purpose: str) -> str:
        """Changes with what shapes the measurements of a chunk, not with how many are asked for."""
        parts = {
            "purpose": purpose,
            "version": MEASUREMENT_VERSION,
            "model": self.model_hash,
            "methods": list(self.config.methods),
            "data": self.source.description,
            "baselines": {name: one.parameters for name, one in self._baselines.items()},
        }
        return json_hash(parts)

    def _provenance(self) -> dict:
        return {
            "data": self.source.description,
            "baselines": {name: one.parameters for name, one in self._baselines.items()},
            "software": software_versions("keras", "tensorflow"),
        }

    def _write_metrics(self, galaxies: Chunk, gate_name: str, failures: list[str], command: str) -> None:
        content = {
            "command": command,
            "model": {"name": self.settings.name, "sha256": self.model_hash},
            "galaxies": len(galaxies),
            "config": asdict(self.config),
            **self._provenance(),
            "gate": {"name": gate_name, "broken": failures},
            "metrics": {
                method: {name: estimate.as_json() for name, estimate in found.items()}
                for method, found in self.metrics.items()
            },
        }
        with replacing(self.output / "metrics.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")

    def _report(self, sections, n: int, gate: Gate, gate_name: str, failures, command: str) -> Report:
        provenance = {"model": self.settings.name, "weights SHA-256": self.model_hash, **self._provenance()}
        # the model first, and what it has to beat; on a phone the others are a swipe away
        shown = [name for name in self.metrics if name != POSTERIOR]
        first = [name for name in ("sr2", "sr2_known_z", "direct_fit") if name in shown]
        columns = [*first, "published", *(name for name in shown if name not in first)]
        return Report(
            title=f"kspecsr: model {self.settings.name or self.model.name} on held-out galaxies",
            lead=f"{n:,} {self.source.title}. Every method sees the same prism spectra and is judged by the "
            "same code.",
            columns=columns,
            metrics=self.metrics,
            gate_name=gate_name,
            gate_limits=len(gate.limits(self.population)),
            gate_failures=failures,
            sections=sections,
            command=command,
            provenance=json.dumps(provenance, indent=1),
        )

    def _bar(self, name: str, total: int, unit: str) -> Progress:
        return Progress(total=total, desc=name, unit=unit, delay=2, disable=self.quiet)
