import errno

import pytest
from distributed import Client
from distributed.comm import CommClosedError

from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import prism_spectrum, write_stand_in_folder
from kspecsr import survey
from kspecsr.surveys import engine
from kspecsr.surveys.inputs import prepare


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "out/objects/part-000000.parquet"),
            "objects/part",
        ),
        (CommClosedError("in <TCP>: Stream is closed"), "the scheduler is gone (in <TCP>: Stream is closed)"),
    ],
)
def test_why_a_run_ended_early_is_said(tmp_path, monkeypatch, error, text):
    """A file that cannot be read is not taken for a lost connection."""

    def fails(*_):
        raise error

    model = write_stand_in_folder(tmp_path / "model")
    write_spectrum(tmp_path / "gal.fits", prism_spectrum(0), {})
    line = [str(tmp_path / "gal.fits"), "--output", str(tmp_path / "out"), "--model", str(model)]
    settings, folder = prepare(survey.main.parser().parse_args(line))
    monkeypatch.setattr(engine, "is_done", fails)
    with Client(processes=False, n_workers=1, dashboard_address=None) as client:
        summary = engine.run_partitions(client, tmp_path / "out", settings, folder, 1, lambda _: None)
    assert not summary.complete and text in summary.ended
    assert ("scheduler" in summary.ended) == isinstance(error, CommClosedError)
