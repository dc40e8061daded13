"""The evaluation from galaxies to page: sources, store, runner, report, command line."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.lines import load_lines
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.simulation import WITHOUT_REDSHIFT
from data_pipeline.spectrum import SpectrumError
from enhancement_sample import (
    BINS,
    IDENTITY,
    LINE_FLUX,
    REDSHIFT,
    StandIn,
    prism_spectrum,
    write_stand_in_folder,
)
from kspecsr import evaluate
from kspecsr.evaluation import evaluation as whole
from kspecsr.evaluation import real_pairs
from kspecsr.evaluation.evaluation import Evaluation
from kspecsr.evaluation.line_table import class_table, limit_table, stated_table, sure_table
from kspecsr.evaluation.methods import METHODS, EvaluationConfig, reconstructions
from kspecsr.evaluation.real_pairs import PairFiles, compare_pair, read_pairs, real_section
from kspecsr.evaluation.report import ROWS, identical_section
from kspecsr.evaluation.sources import SURVEY, SimulatedHeldOut, fingerprint
from kspecsr.evaluation.store import ChunkStore, galaxies_at, measure_galaxies
from kspecsr.feeds.simulated import validation_examples
from kspecsr.measures import redshift
from kspecsr.measures.estimate import WHOLE, bootstrap, median, share, summarise
from kspecsr.measures.gate import Gate, Limit, shipped_gate
from kspecsr.measures.lines import line_signal_to_noise
from kspecsr.results.prism_input import prism_input
from kspecsr.super_resolver import SuperResolver
from pair_sample import observe

GRID = IDENTITY.grid


def source(**options):
    return SimulatedHeldOut(GRID, seed=4, chunk_size=16, **options)


# -- sources ---------------------------------------------------------------------------------------------


def test_held_out_galaxies_are_no_validation_galaxies():
    ours = source(minimum_line_snr=0.0).chunk(0)
    theirs = validation_examples(16, 4, SURVEY, GRID)
    assert not np.isclose(ours.redshift[:, None], theirs["true_redshift"], rtol=1e-7).any()


def test_a_chunk_does_not_depend_on_what_was_read_before():
    first, second = source(), source()
    first.chunk(0)
    np.testing.assert_array_equal(first.chunk(1).prism_flux, second.chunk(1).prism_flux)


def test_the_cut_keeps_galaxies_with_a_line_that_the_gratings_see_and_leaves_the_others():
    cut, everything = source().chunk(0), source(minimum_line_snr=0.0).chunk(0)
    assert 0 < len(cut) < len(everything)
    assert np.isfinite(cut.redshift).all()
    assert set(cut.galaxy) < set(everything.galaxy)
    assert cut.line_detectable.any(axis=1).all()


def test_an_open_population_keeps_what_has_no_redshift_and_says_what_it_is():
    open_sky = source(feed=replace(SURVEY, population="open-sky")).chunk(1)
    without = ~np.isfinite(open_sky.redshift)
    assert len(open_sky) == 16  # faint ones, too
    assert without.any() and set(open_sky.kind[without]) <= set(WITHOUT_REDSHIFT)
    assert not set(open_sky.kind[~without]) & set(WITHOUT_REDSHIFT)
    assert np.isfinite(source().chunk(0).redshift).all()  # noise is no part of the survey's galaxies


def test_the_share_that_is_sure_is_told_by_kind_and_by_trouble():
    galaxy, nothing = np.arange(6), np.full(6, np.nan)
    columns = {"galaxy": galaxy, "kind": np.array(["star", "star", "noise", *["quiescent"] * 3])}
    columns |= {"redshift": np.array([np.nan, np.nan, np.nan, 1.0, 2.0, 3.0])}
    columns |= {"trouble": np.array(["", "hot-pixels", "", "hot-pixels", "hot-pixels", ""])}
    columns |= {"continuum_snr": np.ones(6), "line_snr": np.ones((6, 1)), "line_known": np.ones((6, 1), bool)}
    columns |= {"second_redshift": np.array([*nothing[:4], 2.5, 1.5])}
    measured = {"redshift_found": np.array([1.0, 1.0, 1.0, 1.0, 2.501, 3.0])}
    measured |= {"redshift_true": columns["redshift"], "redshift_offset": np.array([*nothing[:3], 0, 0.5, 0])}
    measured |= {"redshift_confidence": np.array([1.0, 0.2, 0.1, 0.95, 0.95, 0.2])}
    measured |= {"redshift_pit": nothing, "redshift_crps": nothing}
    columns["object_class"] = np.array([3, 3, 4, 1, 1, 1])
    measured["class_found"] = np.array([3, 4, 4, 1, 1, 0])
    found = summarise(redshift.blocks(columns, measured), galaxy, names=())
    table = [row.split() for row in sure_table(found).splitlines()]
    assert ["star", "50.0%", "0.0%", "to", "100.0%", "2", "–"] in table
    assert ["noise", "0.0%", "–", "1", "–"] in table
    assert ["at", "the", "second's", "redshift", "50.0%", "0.0%", "to", "100.0%", "2", "–"] in table
    assert ["hot-pixels", "100.0%", "100.0%", "to", "100.0%", "2", "50.0%"] in table
    assert sure_table({"redshift_confident": found["redshift_confident"]}) == ""
    # a star and a galaxy at another's redshift, of three that are sure
    assert found["sure_wrong"].value == pytest.approx(2 / 3) and found["sure_wrong"].n == 3
    assert found["redshift_outliers_0.01[quiescent]"].value == pytest.approx(1 / 3)
    assert found["confidence_right[0.99-1]"].value == 0.0  # the star
    table = [row.split() for row in stated_table(found).splitlines()]
    assert ["[0.9-0.99]", "0.95", "0.5", "0", "to", "1", "2"] in table
    assert found["class_right"].value == pytest.approx(4 / 6)
    table = [row.split() for row in class_table(found).splitlines()]
    assert ["no", "galaxy", "0.0%", "0.0%", "0.0%", "50.0%", "50.0%", "2"] in table


def test_line_snr_is_flux_over_the_scatter_that_noise_gives_a_matched_filter():
    held_out = source().chunk(0)
    row, line = np.unravel_index(np.argmax(held_out.line_snr), held_out.line_snr.shape)
    doubled = replace(held_out, prism_error=2 * held_out.prism_error)
    again = line_signal_to_noise(
        doubled.prism_error, doubled.prism_mask, doubled.line_flux, doubled.line_known, doubled.redshift
    )
    assert again[row, line] == pytest.approx(held_out.line_snr[row, line] / 2, rel=1e-5)


def test_a_fingerprint_changes_with_the_galaxies_alone():
    assert fingerprint(source()) == fingerprint(source())
    assert fingerprint(source()) != fingerprint(SimulatedHeldOut(GRID, seed=5, chunk_size=16))


@pytest.mark.parametrize("seed", [-1, 1 << 61])
def test_a_seed_that_could_meet_another_set_is_refused(seed):
    with pytest.raises(ValueError, match="held-out seed"):
        SimulatedHeldOut(GRID, seed=seed)


# -- running and storing ---------------------------------------------------------------------------------


def counting(calls):
    def measure(held_out):
        calls.append(len(held_out))
        return {"m": {"g": {"redshift": held_out.redshift.astype(np.float32)}}}

    return measure


def test_what_is_stored_is_not_measured_again_and_more_galaxies_start_with_the_same(tmp_path):
    calls = []
    few = measure_galaxies(source(), 10, counting(calls), ChunkStore(tmp_path, "a"))
    assert len(few) == 10
    many = measure_galaxies(source(), 20, counting(again := []), ChunkStore(tmp_path, "a"))
    assert len(calls) + len(again) == 2
    np.testing.assert_array_equal(many.columns["galaxy"][:10], few.columns["galaxy"])
    np.testing.assert_array_equal(many.measured["m"]["g"]["redshift"], many.columns["redshift"].astype("f4"))


@pytest.mark.parametrize("harm", ["other fingerprint", "damaged"])
def test_a_stored_chunk_of_another_evaluation_or_a_damaged_one_is_measured_again(tmp_path, harm):
    measure_galaxies(source(), 4, counting([]), ChunkStore(tmp_path, "a"))
    if harm == "damaged":
        path = next(tmp_path.glob("*.npz"))
        path.write_bytes(path.read_bytes()[:-100])
    calls = []
    name = "b" if harm == "other fingerprint" else "a"
    measure_galaxies(source(), 4, counting(calls), ChunkStore(tmp_path, name))
    assert calls


def test_galaxies_at_positions_are_those_of_the_columns(tmp_path):
    whole_sample = measure_galaxies(source(), 25, counting([]), ChunkStore(tmp_path, "a"))
    found = list(galaxies_at(source(), [20, 3]))
    assert [one.galaxy[0] for one in found] == list(whole_sample.columns["galaxy"][[3, 20]])


# -- estimates -------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_that_of_theory_and_grows_when_galaxies_share_their_error():
    rng = np.random.default_rng(1)
    alone = bootstrap(np.mean, np.arange(400), rng.normal(size=400), resamples=400)
    assert alone.high - alone.low == pytest.approx(2 / np.sqrt(400), rel=0.15)
    shared = bootstrap(
        np.mean, np.repeat(np.arange(40), 10), np.repeat(rng.normal(size=40), 10), resamples=400
    )
    assert shared.high - shared.low == pytest.approx(2 / np.sqrt(40), rel=0.35)
    assert (shared.n, shared.galaxies) == (400, 40)


def test_nothing_measured_is_said_to_be_nothing():
    found = bootstrap(np.median, np.array([]), np.array([]))
    assert np.isnan(found.value)
    assert found.n == 0
    assert found.as_json()["value"] is None
    assert summarise([([median("m", np.full(3, np.nan))], [WHOLE])], np.arange(3)) == {}


def test_parts_are_made_where_they_are_wanted_and_add_up():
    galaxy = np.repeat(np.arange(20), 2)
    values = np.random.default_rng(2).normal(size=(40, 3))
    cell = np.arange(3)[None]
    parts = [WHOLE, *((f"[{i}]", cell == i) for i in range(3)), ("/old", (galaxy < 5)[:, None])]
    blocks = [([median("m", values), share("s", values > 0, values < 1)], parts)]
    every = summarise(blocks, galaxy, resamples=5)
    assert list(every) == [f"{name}{label}" for label, _ in parts for name in ("m", "s")]
    for name, total in (("m", 120), ("s", np.count_nonzero(values < 1))):
        assert every[name].n == sum(every[f"{name}[{i}]"].n for i in range(3)) == total
    assert every["m/old"].value == np.median(values[:10]) and every["m/old"].galaxies == 5
    assert every["s[1]"].value == pytest.approx(np.mean(values[values[:, 1] < 1, 1] > 0))
    assert (every["m"].p16, every["m"].p84) == pytest.approx(tuple(np.percentile(values, (16, 84))))
    few = summarise(blocks, galaxy, names={"s[2]", "unheard of"}, resamples=5)
    assert few == {name: every[name] for name in ("m", "s", "s[2]")}


# -- methods ---------------------------------------------------------------------------------------------


class Oracle:
    """Networks that know the truth: every metric of a perfect method is known."""

    redshift_bins = BINS

    def __init__(self, galaxies):
        self.galaxies = galaxies

    def predict_arrays(self, flux, error, mask, redshift):
        h = self.galaxies(flux)
        bins = np.exp(-0.5 * ((BINS - np.log1p(h.redshift)[:, None]) / 5e-4) ** 2)
        known = h.line_known
        sigma = np.where(h.line_snr > 0, h.line_flux / np.maximum(h.line_snr, 1e-9), 1.0)
        ones = np.ones_like(h.target_flux)
        outputs = {
            "flux": h.target_flux,
            "flux_error": 0.1 * ones,
            "continuum": h.target_continuum,
            "sr1_flux": h.target_continuum,
            "sr1_error": 0.1 * ones,
            "prism_model": h.prism_flux,
            "line_flux": h.line_flux,
            "line_flux_error": sigma,
        }
        outputs = {name: value * FLUX_UNIT_IN_RECORDS for name, value in outputs.items()}
        return outputs | {
            "line_presence": h.line_detectable.astype(float),
            "line_in_range": known.astype(float),
            "line_wavelength": load_lines().wavelength * (1.0 + h.redshift[:, None]),
            "redshift": h.redshift,
            "redshift_probability": bins / bins.sum(axis=1, keepdims=True),
        }


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """An evaluation of the oracle, all methods, on a few galaxies."""
    folder = tmp_path_factory.mktemp("evaluation")
    model = write_stand_in_folder(folder / "model")
    config = EvaluationConfig(n=40, seed=4, prior_galaxies=6, resamples=10)
    made = Evaluation(model, folder / "report", config, quiet=True)
    made.source = SimulatedHeldOut(GRID, seed=4, chunk_size=24)
    seen = {}

    def remember(held_out):
        seen[held_out.prism_flux.shape, float(held_out.prism_flux.sum())] = held_out
        return held_out

    def look_up(flux):
        values = flux / FLUX_UNIT_IN_RECORDS
        return min(
            (h for h in seen.values() if h.prism_flux.shape == values.shape),
            key=lambda h: np.abs(h.prism_flux - values).sum(),
        )

    original = made._reconstruct
    made._reconstruct = lambda held_out, methods=(): original(remember(held_out), methods)
    made.__dict__["networks"] = Oracle(look_up)
    gate = Gate.from_json(
        '{"evaluation": {"sr2/recovery": {"low": 0.999, "high": 1.001}, "sr1/nothing": {"low": 1},'
        ' "sr2/recovery[snr 5-10]": {"low": 0.9}}}'
    )
    failures = made.run(gate, "test", command="kspecsr evaluate --n 40")
    return made, failures


def test_a_perfect_model_is_seen_as_perfect(judged):
    metrics = judged[0].metrics["sr2"]
    assert metrics["recovery"].value == pytest.approx(1.0, abs=1e-5)
    assert metrics["recovery_scatter"].value == pytest.approx(0.0, abs=1e-5)
    assert metrics["scale_free/core"].value == pytest.approx(0.0, abs=1e-5)
    assert metrics["amplitude_ratio"].value == pytest.approx(1.0, abs=1e-5)
    assert metrics["fwhm_ratio"].value == pytest.approx(1.0, abs=1e-3)
    assert metrics["false_detection"].value == 0.0
    assert metrics["redshift_nmad"].value == pytest.approx(0.0, abs=1e-6)
    assert metrics["response"].value == pytest.approx(1.0, abs=1e-3)


def test_a_model_without_lines_is_seen_to_have_none(judged):
    metrics = judged[0].metrics["sr1"]
    assert metrics["scale_free/core"].value == pytest.approx(1.0, abs=0.02)
    assert metrics["lines_lost"].value > 0.9


def test_every_method_is_measured_and_every_row_of_the_summary_exists(judged):
    metrics = judged[0].metrics
    assert tuple(metrics) == (*METHODS, "population_posterior")
    for row in ROWS:
        assert row.metric in metrics["sr2"], row.title


def test_a_broken_limit_and_a_missing_figure_fail_the_gate(judged):
    assert judged[1] == ["sr1/nothing: not among the metrics; expected at least 1"]


def test_limits_are_shown_with_what_was_found_and_the_oracle_they_depend_on(judged):
    limits = {
        "sr2/recovery": Limit(0.999, 1.001),
        "sr2/response": Limit(0.9, times="population_posterior/response"),
        "sr1/nothing": Limit(1.0),
    }
    failures = Gate(limits).failures(judged[0].values())
    table = [row.split() for row in limit_table(limits, judged[0].metrics, failures).splitlines()]
    assert table[1][:2] == ["sr2/recovery", "1"] and "broken" not in table[1]
    oracle = judged[0].metrics["population_posterior"]["response"].value
    assert 0.1 < oracle < 1.1  # of six galaxies
    assert f"{oracle:.3g}" in table[2] and table[2][-1] == "population_posterior/response"
    assert table[3][-1] == "broken"


def test_figures_of_parts_are_made_for_the_limits_of_gates_alone(judged):
    metrics = judged[0].metrics["sr2"]
    parts = {"recovery[snr 5-10]", "recovery_scatter/[OIII]_5008", "recovery_scatter/Halpha"}
    assert parts <= metrics.keys()
    assert {name for name in metrics if "[snr" in name or "[z" in name} == {"recovery[snr 5-10]"}
    for gate in map(shipped_gate, ("default", "release")):
        missing = [text for text in gate.failures(judged[0].values()) if "not " in text.split(": ")[1]]
        # the stand-in has no correlations, and six galaxies few lines of each kind
        assert not [text for text in missing if "/pull_" not in text and "response" not in text], missing


def test_metrics_are_strict_json_with_intervals_and_counts(judged):
    content = json.loads((judged[0].output / "metrics.json").read_text(), parse_constant=pytest.fail)
    recovery = content["metrics"]["sr2"]["recovery"]
    assert recovery["n"] > 10
    assert recovery["low"] <= recovery["value"] <= recovery["high"]
    assert content["galaxies"] == 40


def test_the_page_is_one_file_with_its_pictures_in_it(judged):
    page = judged[0].page.read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in sources)
    assert page.count("data:image/png") >= 12
    assert "sr1/nothing: not among the metrics" in page
    for row in ROWS:
        assert row.title in html.unescape(page)


def test_the_confidence_that_is_judged_is_that_of_a_result():
    resolver = SuperResolver(StandIn(width=0.01), IDENTITY, BINS)  # a third of the mode lies too far out
    held_out = source().chunk(0).rows(slice(0, 3))
    made = reconstructions(held_out, ("cubic", "direct_fit", "sr2"), resolver, baselines())["sr2"]
    units = [values * FLUX_UNIT_IN_RECORDS for values in (held_out.prism_flux, held_out.prism_error)]
    rows = zip(*units, held_out.prism_mask, strict=True)
    spectra = [prism_spectrum().replace(flux=f, error=e, mask=m) for f, e, m in rows]
    said = [one.redshift.confidence for one in resolver.resolve([prism_input(one) for one in spectra])]
    assert made.confidence == pytest.approx(said, rel=1e-6)
    assert 0.5 < said[0] < 0.8


def baselines():
    from kspecsr.methods.tuned import default_baselines

    return {one.name: one for one in default_baselines()}


# -- configuration, pairs, command line ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 1}, "two galaxies"),
        ({"methods": ("cubic", "direct_fit", "magic")}, "unknown magic"),
        ({"methods": ("sr2",)}, "cubic and direct_fit missing"),
        ({"resamples": 1}, "resamples"),
    ],
)
def test_settings_that_make_no_evaluation_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        EvaluationConfig(**options)


def test_pairs_join_gratings_of_one_prism_file_and_take_the_first_redshift_there_is(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text(
        "prism_file,grating_file,z_prism,z_grating\np1.fits,g1.fits,1.5,\np1.fits,g2.fits,1.5,1.51\np2.fits,g3.fits,2,\n"
    )
    first, second = read_pairs(table)
    assert first.gratings == (tmp_path / "g1.fits", tmp_path / "g2.fits")
    assert (first.redshift, second.redshift) == (1.5, 2.0)
    assert read_pairs(table, ("z_prism",))[0].redshift == 1.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column prism_file, grating_file; it has a, b"),
        ("prism_file,grating_file\n", "no rows"),
        ("prism_file,grating_file,z\np.fits,g.fits,\n", "no redshift of p.fits in z"),
    ],
)
def test_tables_that_are_no_pairs_are_refused(tmp_path, text, words):
    table = tmp_path / "pairs.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)):
        read_pairs(table)


def test_the_command_says_what_is_wrong_and_exits_with_1_or_2(tmp_path, capsys):
    assert evaluate.main(["--model", str(tmp_path), "--output", str(tmp_path / "r")]) == 1
    assert "holds no model.json" in capsys.readouterr().err
    assert evaluate.main(["--output", str(tmp_path), "--methods", "magic"]) == 2


class SmallChunks(SimulatedHeldOut):
    """A dozen galaxies in a moment."""

    def __init__(self, grid, seed, feed):
        super().__init__(grid, seed, feed, chunk_size=16)


def test_galaxies_come_from_the_population_that_is_asked_for(tmp_path):
    model = write_stand_in_folder(tmp_path / "model")
    made = whole.Evaluation(model, tmp_path / "r", EvaluationConfig(n=2, population="sky"))
    assert made.source.simulation.population.continua == "library"
    assert made.source.description["simulation"]["population"]["name"] == "sky"


def test_the_command_reports_broken_limits_with_status_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(whole, "SimulatedHeldOut", SmallChunks)
    model = write_stand_in_folder(tmp_path / "model")
    monkeypatch.setattr(
        whole.SuperResolver, "from_folder", lambda folder: SuperResolver(StandIn(), IDENTITY, BINS)
    )
    monkeypatch.setattr(whole.FigureSet, "sections", lambda *_: [])  # drawn in the tests above
    gate = tmp_path / "gate.json"
    gate.write_text(
        '{"evaluation": {"sr2/redshift_outliers_0.01": {"high": 0.01, "why": "one redshift for all"}}}'
    )
    command = ["--model", str(model), "--output", str(tmp_path / "r"), "--n", "12", "--quiet"]
    command += ["--gate", str(gate), "--prior-galaxies", "0", "--methods", "cubic,direct_fit,sr2"]
    assert evaluate.main(command) == 1
    printed = capsys.readouterr()
    assert "sr2/redshift_outliers_0.01" in printed.err
    assert "one redshift for all" in printed.err
    assert (tmp_path / "r" / "report.html").exists()


# -- sections that other commands or real files make ------------------------------------------------------


def write_identical(folder, model):
    figures = {"value": 0.01, "low": 0.009, "high": 0.011, "n": 100}
    inputs = {
        name: dict.fromkeys(("nmad", "outliers_0.15", "outliers_0.01"), figures) for name in ("lr", "sr")
    }
    (folder / "identical_networks.json").write_text(
        json.dumps({"settings": {"model": model}, "inputs": inputs})
    )


def test_identical_networks_are_shown_for_their_own_model_alone(tmp_path):
    assert identical_section(tmp_path, "ours") is None
    write_identical(tmp_path, "ours")
    assert identical_section(tmp_path, "theirs") is None
    section = identical_section(tmp_path, "ours")
    assert [row[0] for row in section.tables[0].rows] == ["LR", "SR"]
    assert "0.01 (0.009 to 0.011; n 100)" in section.tables[0].rows[0]


def test_a_damaged_comparison_of_identical_networks_is_named(tmp_path):
    (tmp_path / "identical_networks.json").write_text('{"settings": {}}')
    with pytest.raises(ValueError, match=r"identical_networks\.json: is damaged"):
        identical_section(tmp_path, "ours")


def test_lines_of_a_pair_are_compared_with_gratings_and_a_bad_file_is_listed(tmp_path, monkeypatch):
    prism = prism_spectrum(noise=0.3)
    fluxes = {name: flux / 1e-18 for name, flux in LINE_FLUX.items()}
    grating = observe(
        "nirspec-g235m", noise=2e-22, rng=np.random.default_rng(1), redshift=REDSHIFT, lines=fluxes
    )
    read = {"prism.fits": prism, "grating.fits": grating}

    def read_spectrum(path):
        if path.name not in read:
            raise SpectrumError(f"{path}: no such spectrum")
        return read[path.name]

    monkeypatch.setattr(real_pairs, "read_spectrum", read_spectrum)
    resolver = SuperResolver(StandIn(), IDENTITY, BINS)
    pair = PairFiles(tmp_path / "prism.fits", (tmp_path / "grating.fits",), REDSHIFT)
    lines = {one.line: one for one in compare_pair(pair, resolver).lines}
    found = lines["Halpha"]  # [O III] 4960, tied to its partner in the gratings, is not there
    assert found.grating_flux == pytest.approx(200.0, rel=0.05)
    assert found.flux == pytest.approx(200.0, rel=1e-6)  # what the stand-in says
    assert found.direct_flux == pytest.approx(200.0, rel=0.1)
    assert abs(found.velocity) < 15.0
    section, unread = real_section(
        resolver, (), [pair, PairFiles(tmp_path / "lost.fits", (), 1.0)], tmp_path / "pictures"
    )
    assert unread == [f"{tmp_path / 'lost.fits'}: no such spectrum"]
    assert len(section.figures) == 1
    assert any("Hα" in row for row in section.tables[1].rows)
