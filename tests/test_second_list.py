"""A model of the second list of lines: trained a step, saved, used, written and read, evaluated."""

from dataclasses import replace

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.building.pipeline import build
from data_pipeline.building.sources import BuildConfig
from data_pipeline.configuration import to_dict
from data_pipeline.lines import list_naming, load_lines
from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pairs.sky_groups import SplitConfig
from data_pipeline.records import Manifest
from data_pipeline.records.reading import iterate
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.configuration import PRESETS, STAGES, FeedConfig, Preset
from kspecsr.evaluation.evaluation import Evaluation
from kspecsr.evaluation.methods import EvaluationConfig
from kspecsr.evaluation.population_posterior import PopulationPosterior
from kspecsr.evaluation.sources import SURVEY, SimulatedHeldOut
from kspecsr.feeds.example import example_shapes, split_batch
from kspecsr.feeds.records_feed import RecordsFeed, open_records
from kspecsr.feeds.simulated import observed_examples, simulated_examples, simulation_config
from kspecsr.feeds.simulation_feed import SimulationFeed
from kspecsr.layers.broad_lines import broad_fluxes
from kspecsr.layers.line_posterior import free_fluxes
from kspecsr.measures.gate import Gate
from kspecsr.measures.prior_response import perturbed
from kspecsr.model_folder import write_stage
from kspecsr.results.prism_input import prism_wavelength
from kspecsr.results.result import Result
from kspecsr.super_resolver import SuperResolver
from kspecsr.surveys.result_rows import line_rows, read_joint_lines
from kspecsr.surveys.tables import LINES as LINES_FILE
from kspecsr.surveys.tables import SurveyInput, SurveySettings, table_schema
from kspecsr.training.run_settings import UpstreamError, check_first_weights, stage_settings
from kspecsr.training.stage_model import StageModel
from model_sample import SECOND

FIRST, LONGER = load_lines(), load_lines("second")
NAME = "NIV]_1486"
MODEL = replace(SECOND, lines="second")
PRESET = Preset(name="tiny", model=MODEL, feed=FeedConfig(population="wide-open"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder whose last stage was trained one step; the losses of that step are finite."""
    keras.utils.set_random_seed(3)
    x, y = split_batch(simulated_examples(np.arange(8), 5, PRESET.feed, MODEL.grid))
    assert y["line_flux"].shape == (8, *example_shapes(MODEL.grid, "second")["line_flux"]) == (8, 93)
    x["redshift"] = y["true_redshift"].copy()
    path, networks, upstream = tmp_path_factory.mktemp("models") / "tiny", {}, {}
    for stage in STAGES:
        model = StageModel(stage, PRESET, networks)
        if stage == "sr2":
            model.compile(optimizer=keras.optimizers.AdamW(1e-3, clipnorm=1.0), run_eagerly=True)
            history = model.fit(x, y, batch_size=8, verbose=0).history
            assert np.isfinite(history["loss"]).all() and np.isfinite(history["line_flux"]).all()
        networks[stage] = model.stage_network
        upstream[stage] = write_stage(path, stage, networks[stage], PRESET, {"upstream": dict(upstream)})
    return path


@pytest.fixture(scope="module")
def result(folder):
    """Of a galaxy at redshift 6, where N IV] lies on the prism."""
    batch = observed_examples(np.arange(1), 5, PRESET.feed, MODEL.grid, simulation_config(PRESET.feed))[0]
    arrays = (batch.prism_flux[0], batch.prism_error[0], batch.prism_mask[0])
    spectrum = ObservedSpectrum(prism_wavelength(), *arrays, SpectrumMeta(disperser="PRISM", path="a.fits"))
    model = SuperResolver.from_folder(folder)
    assert "93 lines" in repr(model) and model.identity.lines == "second"
    return model(spectrum, redshift=6.0, keep_flagged=True)


def test_a_model_of_the_second_list_measures_its_lines(result):
    table, lines = result.lines, result.measurements
    assert list(table["NAME"]) == list(LONGER.names) and NAME in table["NAME"]
    assert table["WAVE_REST"][LONGER.index(NAME)].value == pytest.approx(1486.496, abs=0.1)
    at = LONGER.index(NAME)
    assert lines.in_range[at] and lines.flux_error[at] > 0 and np.isfinite(lines.correlation[at, at])
    assert lines.wavelength[at] == pytest.approx(7.0 * LONGER.wavelength[at], rel=0.005)
    assert np.isfinite(result.joint_lines.flux_of("NIV]_1483", NAME).value)
    with pytest.raises(KeyError, match="unknown line"):
        replace(result.joint_lines, flux=lines.flux[:67], covariance=np.eye(67)).flux_of(NAME)


@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_files_hold_them(result, tmp_path, ending):
    result.write(tmp_path / f"a.{ending}")
    again = Result.read(tmp_path / f"a.{ending}")
    assert again.model.lines == "second" and list(again.measurements.line) == list(LONGER.names)
    np.testing.assert_allclose(again.measurements.flux, result.measurements.flux, rtol=1e-6)
    names = ("NIV]_1483", NAME)
    mine, other = (one.joint_lines.flux_of(*names).value for one in (again, result))
    assert mine == pytest.approx(other, rel=1e-4, abs=0)


def test_surveys_hold_them(result, tmp_path):
    one = SurveyInput(input_row=0, object_id="a", source="a.fits")
    settings = SurveySettings("files", "0", 1, 1, 1, "tiny", "0")
    schema = table_schema(LINES_FILE, settings)
    pq.write_table(line_rows([one], [result], schema), tmp_path / LINES_FILE)
    joint = read_joint_lines(tmp_path, 0)
    np.testing.assert_allclose(joint.flux, result.measurements.flux, rtol=1e-6)


# one step teaches nothing: ratios of fluxes that are nothing
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_it_is_evaluated_with_its_lines(folder, tmp_path):
    config = EvaluationConfig(
        n=2, methods=("cubic", "direct_fit", "sr2"), prior_galaxies=0, resamples=2, all_splits=True
    )
    evaluation = Evaluation(folder, tmp_path, config, quiet=True)
    assert evaluation.source.feed == replace(SURVEY, lines="second")
    evaluation.source = SimulatedHeldOut(MODEL.grid, 4, evaluation.source.feed, chunk_size=8)
    galaxies, _ = evaluation.measure(Gate())
    assert galaxies.columns["line_flux"].shape[1] == len(LONGER)
    for method in config.methods:
        assert galaxies.measured[method]["lines"]["line_flux"].shape[1] == len(LONGER)
    held_out = evaluation.source.chunk(0)
    oracle = PopulationPosterior(PRESET.feed, MODEL.grid, n=300).reconstruct(held_out)
    assert oracle.line_flux.shape == held_out.line_flux.shape
    changed = perturbed(held_out, "[OIII]_5008", 2.0)
    assert changed.line_flux.shape == held_out.line_flux.shape


def test_ties_of_the_first_list_begin_those_of_the_second():
    narrow, broad = (
        [of(len(lines)) for lines in (FIRST, LONGER)] for of in (lambda n: free_fluxes(n)[0], broad_fluxes)
    )
    rows, columns = narrow[0].shape
    assert np.array_equal(narrow[1][:rows, :columns], narrow[0])
    named = [{LONGER.names[k] for k in tie.argmax(axis=0)} for tie in broad]
    assert named[1] - named[0] == {"NV_1239", "HeI_4027", "HeI_5017", "H9_3836", "H10_3799", "Brdelta"}
    assert list_naming(FIRST.names) == list_naming(["no line"]) == "first" and list_naming([NAME]) == "second"


def test_the_feed_follows_the_model_and_the_default_leaves_no_trace():
    assert PRESET.feed.lines == "second" and Preset.from_json(PRESET.to_json()) == PRESET
    with pytest.raises(ValueError, match=r"feed.lines is 'second', but model.lines is 'first'"):
        Preset(feed=FeedConfig(lines="second"))
    with pytest.raises(ValueError, match=r"model.lines: expected one of first, second, got 'third'"):
        replace(SECOND, lines="third")
    for preset in (PRESETS[name] for name in ("first", "paper", "small")):
        settings = stage_settings("sr2", preset, {}, {}, {})
        assert "lines" not in settings and '"lines"' not in preset.to_json()
    assert stage_settings("sr2", PRESET, {}, {}, {})["lines"] == "second"
    with SimulationFeed(PRESET.feed, MODEL.grid, 2, 1, workers=0) as feed:
        description = feed.description
    assert description["feed"]["lines"] == description["simulation"]["lines"] == "second"
    assert "lines" not in to_dict(SURVEY)


def test_other_lists_are_refused_by_name(folder, tmp_path, monkeypatch):
    first = Preset(name="first", model=SECOND)
    with pytest.raises(UpstreamError, match=r"measures the list of lines 'second', preset 'first' 'first'"):
        check_first_weights(folder, tmp_path, "sr2", first, other_stages=True)
    check_first_weights(folder, tmp_path, "zhead", first, other_stages=True)
    held = type("Held", (), {"line_names": FIRST.names, "grid": MODEL.grid})
    monkeypatch.setattr(Manifest, "read", lambda directory: held)
    assert open_records("records", MODEL.grid) is held
    with pytest.raises(
        ValueError, match=r"records: its records hold the list 'first', but the model measures"
    ):
        open_records("records", MODEL.grid, "second")


def test_records_of_simulated_galaxies_hold_its_lines(tmp_path):
    config = BuildConfig(
        source="simulation",
        n=3,
        population="wide",
        preprocessing=PreprocessingConfig(grid=MODEL.grid, minimum_line_snr=0.0),
        split=SplitConfig(0.0, 0.0),
        augmentation=AugmentationConfig(realisations=1),
        lines="second",
    )
    assert "lines" not in to_dict(replace(config, lines="first"))
    build(config, tmp_path, quiet=True)
    rows = [row for row in iterate(tmp_path, "train") if np.isfinite(row["redshift"])]
    assert {row["line_flux_known"].sum() > 0 for row in rows} == {True}
    batch = next(RecordsFeed(tmp_path, "train", 2, 0, grid=MODEL.grid, lines="second"))
    assert batch["line_flux"].shape == (2, len(LONGER))
    with pytest.raises(ValueError, match=r"its records hold the list 'second', but the model"):
        RecordsFeed(tmp_path, "train", 2, 0, grid=MODEL.grid)
