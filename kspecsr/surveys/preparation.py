"""From a command line to a run: its plan and settings, in a folder that is its own."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from data_pipeline.versions import software_versions
from kspecsr.enhancement.writable import check_writable
from kspecsr.model_settings import find_model, read_settings, weights_hash
from kspecsr.surveys.inputs import write_plan
from kspecsr.surveys.output import check_same_run, write_manifest
from kspecsr.surveys.plan import PLAN_FILE
from kspecsr.surveys.settings import InputColumns, SurveySettings


def prepare(args: argparse.Namespace) -> tuple[SurveySettings, Path]:
    """Writes plan and manifest, or finds them as they must be.

    Args:
        args: of ``python -m kspecsr.survey``.

    Returns:
        Settings of the run, and the model's folder.

    Raises:
        SurveyError: where the folder belongs to another run.
        SpectrumError: for inputs that are no spectra.
        ModelFolderError: for a folder without a model.
        OSError: where the folder cannot be written.
    """
    model = find_model(args.model)
    named = {field.name: getattr(args, field.name) for field in dataclasses.fields(InputColumns)}
    check_writable(args.output)
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=args.output) as temporary:
        kind, columns, plan = write_plan(
            Path(temporary), args.inputs, InputColumns(**named), args.partition_size
        )
        settings = SurveySettings(
            kind=kind,
            inputs_sha256=plan.sha256,
            total=plan.total,
            partitions=plan.partitions,
            partition_size=args.partition_size,
            model=read_settings(model).name,
            model_sha256=weights_hash(model),
            columns=columns,
            extraction=args.extraction,
            spectra=args.spectra,
            software=software_versions("tensorflow", "keras", "pyarrow"),
        )
        if not check_same_run(args.output, settings):
            (Path(temporary) / PLAN_FILE).replace(args.output / PLAN_FILE)
            write_manifest(args.output, settings, args.inputs)
    return settings, model
