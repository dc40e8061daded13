import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from cdshealpix.nested import healpix_to_lonlat

from data_pipeline.lines import load_lines
from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import (
    BINS,
    IDENTITY,
    LINE_FLUX,
    REDSHIFT,
    JointStandIn,
    SecondStandIn,
    StandIn,
    grating_spectrum,
    prism_spectrum,
    write_stand_in_folder,
)
from kspecsr import survey
from kspecsr.model_settings import weights_hash
from kspecsr.super_resolver import LARGE_BATCH, SMALL_BATCH, SuperResolver
from kspecsr.surveys import engine
from kspecsr.surveys import partition as partition_module
from kspecsr.surveys.hats_catalogue import write_hats
from kspecsr.surveys.inputs import prepare, resolved_columns
from kspecsr.surveys.output import MANIFEST_FILE, SurveyError, is_done, locked, read_manifest
from kspecsr.surveys.partition import LEAST, process_partition
from kspecsr.surveys.reading import partition_counts
from kspecsr.surveys.result_rows import read_joint_lines
from kspecsr.surveys.rows import read_rows
from kspecsr.surveys.tables import CHUNK, FAILURE_KINDS, RATIOS, TABLES, InputColumns
from model_sample import tiny_model
from survey_sample import (
    ROOT,
    catalogue_table,
    contents,
    rows,
    settings_of,
    with_units,
    write_catalogue,
)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model folder that loads the stand-in, in this process."""
    folder = write_stand_in_folder(tmp_path / "model")
    network = StandIn()
    resolver = SuperResolver(network, IDENTITY, BINS)
    monkeypatch.setattr(partition_module, "load_resolver", lambda *arguments: resolver)
    network.folder = folder
    return network


def make(model, *arguments, output="out", only=None):
    """What the command does, on no cluster; the output folder."""
    folder = model.folder.parent / output
    line = [*map(str, arguments), "--output", str(folder), "--model", str(model.folder)]
    settings, model_folder = prepare(survey.main.parser().parse_args(line))
    for number, count in enumerate(partition_counts(folder)):
        if only is None or number in only:
            process_partition(str(folder), settings, number, count, str(model_folder), 0)
    return folder


def refused(model, capsys, *arguments, output="out"):
    """Error text of the command, which must fail before any worker starts."""
    line = [*map(str, arguments), "--output", str(model.folder.parent / output), "--model", str(model.folder)]
    assert survey.main(line) == 1
    return capsys.readouterr().err


@pytest.fixture
def tree(tmp_path):
    """Three prism spectra in folders, and what is no spectrum."""
    for number, name in enumerate(("a/gal0.fits", "a/b/gal1.fits", "gal2.fits")):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        spectrum = prism_spectrum(
            number, source_id=str(number), target=f"t{number}", ra=53.1 + number, dec=-27.8
        )
        write_spectrum(path, spectrum, {})
    (tmp_path / "tree" / "a" / "broken.fits").write_bytes(
        (tmp_path / "tree" / "gal2.fits").read_bytes()[:4000]
    )
    write_spectrum(
        tmp_path / "tree" / "grating.fits", prism_spectrum(7, disperser="G235M", target="grating"), {}
    )
    return tmp_path / "tree"


def test_a_tree_of_files_gives_a_row_per_object_and_the_rest_as_failures(model, tree):
    out = make(model, tree)
    objects, failures = rows(out, "objects"), rows(out, "failures")
    assert [row["object_id"] for row in objects] == ["t2", "t0", "t1"]  # in the order of the folders
    assert sorted(row["input_row"] for row in objects + failures) == list(range(5))
    assert {row["object_id"]: row["kind"] for row in failures} == {
        "broken": "unreadable",
        "grating": "not_prism",
    }
    assert {row["kind"] for row in failures} < set(FAILURE_KINDS)
    reasons = {row["object_id"]: row["reason"] for row in failures}
    assert "broken.fits" in reasons["broken"] and "G235M" in reasons["grating"]
    for row in objects:
        assert row["z"] == pytest.approx(REDSHIFT, abs=1e-6) and not row["z_given"]
        assert row["z_p16"] < row["z_p50"] < row["z_p84"]
        assert (row["z_p84"] - row["z_p16"]) / 2 == pytest.approx(row["z_error"], rel=0.1)
        assert row["z_modes"][0] == pytest.approx(REDSHIFT, abs=1e-3) and row["z_mode_masses"][0] > 0.99
        assert row["brightest_line"] == "[OIII]_5008" and row["lines_detected"] == 3
        assert row["brightest_flux"] == pytest.approx(3e-18, rel=1e-6, abs=0)
    assert [row["ra"] for row in objects] == pytest.approx([55.1, 53.1, 54.1])


def test_lines_are_in_long_format_with_their_fluxes(model, tree):
    out = make(model, tree)
    lines = [row for row in rows(out, "lines") if row["object_id"] == "t1"]
    listed = load_lines()
    centre = listed.wavelength * (1 + REDSHIFT)
    inside = (centre > IDENTITY.grid.start) & (centre < IDENTITY.grid.stop)
    assert {row["line"] for row in lines} == {n for n, yes in zip(listed.names, inside, strict=True) if yes}
    by_name = {row["line"]: row for row in lines}
    for name, flux in LINE_FLUX.items():
        row = by_name[name]
        assert row["flux"] == pytest.approx(flux, rel=1e-6, abs=0)
        assert row["flux_error"] == pytest.approx(2e-20, rel=1e-6, abs=0)
        assert row["wave_obs"] * 1e4 == pytest.approx(row["wave_rest"] * (1 + REDSHIFT), rel=1e-9)


def test_columns_carry_units_and_the_schema_what_made_them(model, tree):
    out = make(model, tree, "--spectra")
    settings = read_manifest(out)
    for name, columns in TABLES.items():
        if name == RATIOS:  # of models that state correlations
            assert not (out / name).exists()
            continue
        schema = pq.read_schema(out / name / "part-000000.parquet")
        assert schema.names == [column.name for column in columns]
        for column in columns:
            metadata = schema.field(column.name).metadata
            assert metadata.get(b"unit", b"").decode() == column.unit and metadata[b"description"]
        assert schema.metadata[b"weights_sha256"].decode() == weights_hash(model.folder)
        content = json.loads(schema.metadata[b"kspecsr"])
        assert content["fingerprint"] == settings.fingerprint
        assert {"kspecsr", "tensorflow", "numpy", "pyarrow"} <= set(content["settings"]["software"])
    units = json.loads(pq.read_schema(out / "lines" / "part-000000.parquet").metadata[b"units"])
    assert units["flux"] == "erg / (s cm2)" and units["wave_obs"] == "um"


def test_a_survey_has_the_joint_errors_and_classes_that_results_have(tree, tmp_path, monkeypatch):
    network = SecondStandIn()
    network.folder = write_stand_in_folder(tmp_path / "joint", "default")
    resolver = SuperResolver(network, IDENTITY, BINS)
    monkeypatch.setattr(partition_module, "load_resolver", lambda *arguments: resolver)
    out = make(network, tree)
    assert settings_of(out)["joint_lines"]
    row = rows(out, "objects")[1]
    expected = resolver(row["source"])
    assert row["object_class"] == "broad lines" and row["no_redshift"] == 0.25 and row["p_fit"] == 0.5
    assert row["class_probability"] == pytest.approx(list(expected.class_probability.values()))
    joint = read_joint_lines(out, row["input_row"])
    assert joint.correlated
    for names in (("[OII]_3727", "[OII]_3730"), ("Halpha", "[NII]_6585", "[NII]_6550"), ("[OIII]_5008",)):
        found, other = joint.flux_of(*names), expected.flux_of(*names)
        assert astuple(found) == pytest.approx(astuple(other), rel=2e-3, abs=1e-22)
        if len(names) > 1:
            independent = np.sqrt(len(names)) * 2e-20
            assert found.high - found.low < 1.8 * independent
    found, other = joint.ratio("[NII]_6585", "Halpha"), expected.ratio("[NII]_6585", "Halpha")
    assert astuple(found) == pytest.approx(astuple(other), rel=5e-3)
    ratios = [one for one in rows(out, "ratios") if one["input_row"] == row["input_row"]]
    table = expected.ratios
    assert [one["name"] for one in ratios] == list(table["NAME"])
    assert [one["kind"] for one in ratios] == list(table["KIND"])
    for name in ("P2.5", "P50", "P97.5", "PRIOR_WEIGHT"):
        key = {"P2.5": "p02", "P50": "p50", "P97.5": "p97"}.get(name, "prior_weight")
        np.testing.assert_allclose([one[key] for one in ratios], table[name], rtol=1e-6)


@pytest.fixture
def joint_model(model, tmp_path):
    """The stand-in with joint line errors."""
    model.__class__, model.error = JointStandIn, 1e-19
    model.folder = write_stand_in_folder(tmp_path / "joint", "default")
    return model


@pytest.fixture
def pairs(tmp_path):
    """Ten prism spectra: the first with two gratings, the second with one of another scale, others alone."""
    folder = tmp_path / "pairs"
    for number in range(10):
        where = {"ra": 10.0 + 0.01 * number, "dec": 0.0}
        one = prism_spectrum(number, target=f"t{number}", source_id=str(number), **where)
        write_spectrum(folder / f"prism{number}.fits", one, {})
        gratings = {0: (("g140m", 1.13), ("g235m", 1.13)), 1: (("g235m", 0.4),)}.get(number, ())
        for name, scale in gratings:
            arm = grating_spectrum(f"nirspec-{name}", number, scale=scale, **where)
            write_spectrum(folder / f"{name}_{number}.fits", arm, {})
    return folder


def test_a_survey_joins_gratings_as_results_do(joint_model, pairs):
    out = make(joint_model, pairs, "--with", pairs, "--spectra", "--partition-size", 4)
    assert settings_of(out)["with_gratings"] == 2 and settings_of(out)["total"] == 10
    assert not rows(out, "failures")  # gratings that are joined are no inputs of their own
    found = {row["object_id"]: row for row in rows(out, "objects")}
    assert [found[f"t{number}"]["arms"] for number in range(3)] == [2, 1, 0]
    resolver = SuperResolver(joint_model, IDENTITY, BINS)
    arms = [pairs / "g140m_0.fits", pairs / "g235m_0.fits"]
    expected, row = resolver(str(pairs / "prism0.fits"), gratings=list(map(str, arms))), found["t0"]
    assert row["z"] == pytest.approx(expected.redshift.value, abs=1e-7) and row["z_error"] < 5e-4
    assert row["z_prism"] == pytest.approx(REDSHIFT, abs=1e-6) and row["z_prism_error"] > 10 * row["z_error"]
    for arm in expected.arms.arms:
        for name in ("scale", "shift"):
            column, number = f"{name}_{arm.name.lower()}", getattr(arm, name)
            stored = (row[column], row[f"{column}_error"])
            assert stored == pytest.approx((number.value, number.error), rel=1e-5)
    assert abs(row["scale_g235m"] - 1.13) < 4 * row["scale_g235m_error"] < 0.5
    assert math.isnan(row["scale_g395m"]) and math.isnan(found["t2"]["shift_g235m_error"])
    assert math.isnan(found["t2"]["z_prism"]) and found["t2"]["flags"] == row["flags"] == ""
    assert found["t1"]["flags"] == "ARMS_DISAGREE" and found["t1"]["lines_detected"] >= 3
    assert "arms disagree: flux scale of G235M" in found["t1"]["notes"]
    assert found["t1"]["scale_g235m"] == pytest.approx(0.4, rel=0.2)
    joint, want = read_joint_lines(out, row["input_row"]), expected.ratio("[OIII]_5008", "Halpha")
    assert astuple(joint.ratio("[OIII]_5008", "Halpha")) == pytest.approx(astuple(want), rel=2e-3)
    stored = {one["object_id"]: one for one in rows(out, "spectra")}
    np.testing.assert_array_equal(stored["t0"]["pixel_source"], expected.arms.source)
    assert set(stored["t2"]["pixel_source"]) <= {0, 1}


def test_joined_spectra_do_not_depend_on_those_beside_them(joint_model, pairs):
    """As in `test_batches_do_not_depend_on_what_ran_before`: the joint fit asks the model for few spectra."""
    make(joint_model, pairs, "--with", pairs, "--partition-size", 4)
    assert min(joint_model.sizes) == LARGE_BATCH


def test_gratings_that_a_survey_cannot_join_are_failures_or_refused(joint_model, pairs, tmp_path, capsys):
    table = tmp_path / "paths.csv"
    table.write_text(f"file\n{pairs / 'prism3.fits'}\n")
    out = make(joint_model, table, "--with", pairs / "g235m_1.fits", output="far")
    (failure,) = rows(out, "failures")
    assert failure["kind"] == "not_joined" and "lies 72.0 arcsec from" in failure["reason"]
    (pairs / "g235m_1.fits").write_bytes(b"no FITS file")
    out = make(joint_model, pairs / "prism1.fits", "--with", pairs / "g235m_1.fits", output="damaged")
    (failure,) = rows(out, "failures")
    assert failure["kind"] == "not_joined" and "g235m_1.fits" in failure["reason"]
    write_catalogue(tmp_path / "c.parquet", 2)
    error = refused(joint_model, capsys, tmp_path / "c.parquet", "--with", pairs, output="rows")
    assert "c.parquet holds spectra as rows; expected prism spectra as files" in error
    joint_model.folder = write_stand_in_folder(tmp_path / "single")
    error = refused(joint_model, capsys, pairs, "--with", pairs, output="single-out")
    assert "this model states each line's error by itself" in error


def test_other_gratings_are_another_run(joint_model, pairs, capsys):
    make(joint_model, pairs, "--with", pairs)
    line = ["--with", str(pairs), "--dry-run", "--output", str(pairs / "none")]
    assert survey.main([str(pairs), *line]) == 0
    assert "10 inputs (files) in 1 partitions, 2 with gratings" in capsys.readouterr().out
    os.utime(pairs / "g235m_0.fits", ns=(1, 1))
    assert "inputs_sha256" in refused(joint_model, capsys, pairs, "--with", pairs)
    assert "with_gratings 2 there, 0 now" in refused(joint_model, capsys, pairs)


def test_lines_of_a_survey_without_correlations_are_independent(model, tree):
    out = make(model, tree)
    first = rows(out, "lines")[0]
    assert not read_joint_lines(out, first["input_row"]).correlated and first["correlations"] is None
    assert rows(out, "objects")[0]["class_probability"] == []
    with pytest.raises(SurveyError, match="no line of input 77: it is flagged, or a failure"):
        read_joint_lines(out, 77)
    with pytest.raises(SurveyError, match="lines: cannot be read"):
        read_joint_lines(tree, 0)


def test_a_zero_point_is_taken_off_files_and_rows(model, tree, tmp_path):
    moved = make(model, tree, "--zero-point", "180")
    assert settings_of(moved)["zero_point"] == 180.0
    assert all(
        "wavelengths moved by a zero point of 180 km/s" in row["notes"] for row in rows(moved, "objects")
    )
    write_catalogue(tmp_path / "c.parquet", 2)
    whole = [
        make(model, tmp_path / "c.parquet", "--spectra", *o, output=f"rows{len(o)}")
        for o in ((), ("--zero-point", "180"))
    ]
    as_is, taken = (np.array(rows(out, "spectra")[0]["prism_flux"]) for out in whole)
    assert not np.array_equal(as_is, taken)
    assert "180 km/s" in rows(whole[1], "objects")[0]["notes"]


def test_spectra_are_list_columns_on_the_grids_beside_them(model, tree):
    out = make(model, tree, "--spectra")
    one = rows(out, "spectra")[0]
    wavelength = pq.read_table(out / "grids" / "output.parquet")["wavelength"].to_numpy()
    assert len(one["flux"]) == len(one["flux_error"]) == wavelength.size
    # Halpha stands where the table of lines has it
    near = np.abs(wavelength - 0.65646 * (1 + REDSHIFT)) < 0.02
    flux = np.array(one["flux"], dtype=float)
    assert wavelength[near][np.argmax(flux[near])] == pytest.approx(0.65646 * (1 + REDSHIFT), abs=2e-3)
    z = pq.read_table(out / "grids" / "redshift.parquet")["z"].to_numpy()
    assert len(one["pz"]) == z.size and z[np.argmax(one["pz"])] == pytest.approx(REDSHIFT, abs=3e-3)
    assert sum(one["pz"]) == pytest.approx(1.0, abs=2e-3)
    prism = pq.read_table(out / "grids" / "prism.parquet")["wavelength"].to_numpy()
    assert len(one["prism_flux"]) == len(one["prism_mask"]) == prism.size


def test_pandas_polars_and_pyarrow_read_the_same(model, tree):
    out = make(model, tree, "--partition-size", 2)
    assert len(list((out / "objects").glob("*.parquet"))) == 3
    one, two = pd.read_parquet(out / "objects"), pl.read_parquet(out / "objects" / "*.parquet")
    three = pyarrow.dataset.dataset(out / "objects").to_table()
    assert list(one["z"]) == two["z"].to_list() == three["z"].to_pylist()
    assert one["z_modes"].iloc[0][0] == two["z_modes"][0][0] == three["z_modes"][0].as_py()[0]
    merged = pd.read_parquet(out / "lines").merge(one[["input_row", "z"]], on="input_row")
    assert len(merged) == len(pd.read_parquet(out / "lines"))


def test_a_catalogue_of_lists_gives_what_its_rows_as_files_give(model, tmp_path):
    observed = [prism_spectrum(number) for number in range(3)]
    table = pa.table(
        {
            "name": ["x", "y", "z"],
            "lam": [list(o.wavelength * 1e4) for o in observed],
            "flam": [list(o.flux * 1e20) for o in observed],
            "ivar": [list((o.error * 1e20) ** -2.0) for o in observed],
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    units = ["--flux-unit", "1e-20 erg/(s cm2 Angstrom)", "--wavelength-unit", "Angstrom"]
    out = make(model, tmp_path / "c.parquet", *units, output="lists")
    for number, one in enumerate(observed):
        write_spectrum(tmp_path / "files" / f"g{number}.fits", one, {})
    other = make(model, tmp_path / "files", output="files-out")
    left, right = rows(out, "objects"), rows(other, "objects")
    assert [row["object_id"] for row in left] == ["x", "y", "z"]
    assert [row["source_row"] for row in left] == [0, 1, 2]
    for a, b in zip(left, right, strict=True):
        for key in ("sn_continuum", "sn_feature", "sn_pixel", "chi_square"):
            assert a[key] == pytest.approx(b[key], rel=1e-5)
    assert settings_of(out)["columns"]["ivar"] == "ivar" and settings_of(out)["columns"]["error"] == ""


def test_nested_columns_and_units_in_the_metadata_are_read(model, tmp_path):
    table = catalogue_table(2)
    names = ["wavelength", "flux", "error"]
    nested = pa.StructArray.from_arrays([table[n].combine_chunks() for n in names], names)
    units = {
        f"spectrum.{n}": u for n, u in zip(names, ("um", *["1e-20 erg/(s cm2 Angstrom)"] * 2), strict=True)
    }
    table = pa.table({"object_id": table["object_id"], "spectrum": nested})
    folder = tmp_path / "hats" / "dataset" / "Norder=0" / "Dir=0"
    folder.mkdir(parents=True)
    pq.write_table(table.replace_schema_metadata({"units": json.dumps(units)}), folder / "Npix=1.parquet")
    pq.write_metadata(table.schema, tmp_path / "hats" / "dataset" / "_metadata")
    (tmp_path / "hats" / "point_map.fits").write_bytes(b"no spectrum")
    out = make(model, tmp_path / "hats")
    assert len(rows(out, "objects")) == 2 and settings_of(out)["columns"]["flux"] == "spectrum.flux"


def test_rows_are_found_whatever_the_row_groups(tmp_path):
    path = write_catalogue(tmp_path / "c.parquet", 40)
    columns = survey_columns(path)
    want = catalogue_table(40)
    for start, stop in ((0, 40), (5, 12), (16, 18), (33, 40), (39, 40)):
        found = list(read_rows(str(path), start, stop, 100 + start, columns))
        assert [one.source_row for one in found] == list(range(start, stop))
        assert [one.input_row for one in found] == list(range(100 + start, 100 + stop))
        for one in found:
            np.testing.assert_allclose(
                one.spectrum.observed.flux * 1e20, want["flux"][one.source_row].as_py(), rtol=1e-12
            )


def survey_columns(path):
    return resolved_columns(pq.read_schema(path), InputColumns(), str(path))


@pytest.mark.parametrize("ending", ["csv", "ecsv", "parquet"])
def test_a_table_of_paths_gives_ids_positions_and_known_redshifts(model, tree, tmp_path, ending):
    content = {
        "file": ["tree/gal2.fits", "tree/a/gal0.fits", "tree/none.fits"],
        "name": ["one", "two", "three"],
        "ra": [10.0, 20.0, 30.0],
        "dec": [-1.0, -2.0, -3.0],
        "z_spec": [2.5, -1.0, 1.0],
    }
    path = tmp_path / f"paths.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table(content), path)
    else:
        Table(content).write(path, format=f"ascii.{ending}")
    out = make(model, path, "--redshift", "z_spec")
    found = {row["object_id"]: row for row in rows(out, "objects")}
    assert set(found) == {"one", "two"}
    assert found["one"]["z"] == 2.5 and found["one"]["z_given"] and found["one"]["z_error"] == 0
    assert found["two"]["z"] == pytest.approx(REDSHIFT, abs=1e-6) and not found["two"]["z_given"]
    assert (found["two"]["ra"], found["two"]["dec"]) == (20.0, -2.0)
    (failure,) = rows(out, "failures")
    assert (failure["object_id"], failure["kind"]) == ("three", "no_file")
    assert "none.fits: no such file" in failure["reason"]
    # a column of redshifts is not used unless it is asked for
    out = make(model, path, output="inferred")
    assert not any(row["z_given"] for row in rows(out, "objects"))


def test_odd_rows_become_failures_and_do_not_end_the_run(model, tmp_path):
    table = catalogue_table(6).to_pydict()
    table["flux"][1] = None
    table["wavelength"][2] = table["wavelength"][2][:100]
    table["wavelength"][3] = [1.0] * len(table["wavelength"][3])
    table["error"][4] = [-1.0] * len(table["error"][4])
    schema = catalogue_table(1).schema
    pq.write_table(with_units(pa.table(table, schema=schema)), tmp_path / "c.parquet")
    out = make(model, tmp_path / "c.parquet")
    failures = rows(out, "failures")
    assert [row["input_row"] for row in failures] == [1, 2, 3, 4]
    assert [row["input_row"] for row in rows(out, "objects")] == [0, 5]
    texts = [row["reason"] for row in failures]
    assert all(f"[row {row}]" in text for row, text in zip((1, 2, 3, 4), texts, strict=True))
    assert "null" in texts[0] and "equal length" in texts[1] and "duplicate" in texts[2]


def test_one_spectrum_without_a_result_leaves_the_others_theirs(model, tree, monkeypatch):
    row = StandIn.row

    def breaks(self, one):
        if one["prism_flux"][300] > 1:
            raise ValueError("singular")
        return row(self, one)

    monkeypatch.setattr(StandIn, "row", breaks)
    odd = prism_spectrum(5, target="odd")
    odd.flux[300] = 1e3
    write_spectrum(tree / "a" / "odd.fits", odd, {})
    out = make(model, tree / "a")
    assert {one["object_id"] for one in rows(out, "objects")} == {"t0", "t1"}
    kinds = {one["object_id"]: (one["kind"], one["reason"]) for one in rows(out, "failures")}
    assert kinds["odd"] == ("not_resolved", "singular")


def test_partitions_can_be_made_in_any_order_and_again(model, tree):
    whole = make(model, tree, "--partition-size", 2)
    first = contents(whole)
    other = make(model, tree, "--partition-size", 2, output="other", only=[2, 0])
    assert len(contents(other)) == 2 * 3
    assert contents(make(model, tree, "--partition-size", 2, output="other")) == first
    # damaged, cut, or of another run: made again
    settings, counts = read_manifest(whole), partition_counts(whole)
    path = whole / "lines" / "part-000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    stranger = make(model, tree, "--partition-size", 2, "--spectra", output="stranger", only=[2])
    shutil.copy(stranger / "objects" / "part-000002.parquet", whole / "objects" / "part-000002.parquet")
    (whole / "failures" / "part-000000.parquet").unlink()
    assert not any(is_done(whole, settings, k, counts[k]) for k in range(3))
    assert contents(make(model, tree, "--partition-size", 2)) == first


def test_a_limit_takes_the_first_inputs_and_a_dry_run_writes_nothing(tmp_path, tree, capsys):
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet")]
    for path in paths:
        write_catalogue(path, 2)
    for given, limit, text in (
        ([tree], 2, "2 inputs (files) in 1 partitions"),
        (paths, 3, "3 inputs (rows) in 2 partitions; columns: "),
    ):
        options = ["--limit", str(limit), "--dry-run", "--output", str(tmp_path / "none")]
        assert survey.main([*map(str, given), "--partition-size", "2", *options]) == 0
        out = capsys.readouterr().out
        assert text in out and "nothing was written" in out and not (tmp_path / "none").exists()


def test_what_is_done_is_not_made_again(model, tree):
    make(model, tree)
    calls = len(model.sizes)
    make(model, tree)
    assert len(model.sizes) == calls


def test_batches_do_not_depend_on_what_ran_before():
    # SuperResolver has a small batch for few spectra, unless it ran a large one before
    assert LEAST > SMALL_BATCH and CHUNK == LARGE_BATCH


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--spectra"], "spectra False there, True now"),
        (["--partition-size", "2"], "partition_size 1024 there, 2 now"),
        (["--extraction", "5pix"], "extraction 3pix there, 5pix now"),
    ],
)
def test_another_run_in_the_folder_is_refused(model, tree, capsys, change, text):
    make(model, tree)
    error = refused(model, capsys, tree, *change)
    assert text in error and "belongs to another run" in error and "--output" in error


def test_tables_of_an_older_layout_are_not_mixed_with_new_ones(model, tree, capsys):
    path = make(model, tree) / MANIFEST_FILE
    content = json.loads(path.read_text())
    del content["settings"]["layout"]  # as version 0.1.0 wrote it
    path.write_text(json.dumps(content))
    assert "layout 1 there, 5 now" in refused(model, capsys, tree)


def test_the_table_of_lines_has_the_columns_of_result_files(model, tree):
    out = make(model, tree)
    table = pq.read_table(out / "lines" / "part-000000.parquet")
    assert table.column_names[2:] == [
        "line", "wave_rest", "wave_obs", "flux", "flux_error", "fwhm", "ew_rest", "presence", "snr",
        "upper_limit", "in_range", "prior_weight", "flux_narrow", "flux_narrow_error", "flux_broad",
        "flux_broad_error", "correlations",
    ]  # fmt: skip
    flux, error = (table[name].to_numpy() for name in ("flux", "flux_error"))
    np.testing.assert_allclose(table["snr"].to_numpy(), flux / error, rtol=1e-6)
    np.testing.assert_allclose(table["upper_limit"].to_numpy(), 3 * error, rtol=1e-6)
    assert all(table["in_range"].to_pylist())
    field = table.schema.field("upper_limit")
    assert field.metadata == {b"description": b"3 FLUX_ERR", b"unit": b"erg / (s cm2)"}


def test_other_inputs_and_other_weights_are_refused(model, tree, capsys):
    make(model, tree)
    path = tree / "gal2.fits"
    os.utime(path, ns=(1, 1))
    assert "inputs_sha256" in refused(model, capsys, tree)
    make(model, tree, output="new")
    (model.folder / "sr1.keras").write_bytes(b"other weights")
    assert "model_sha256" in refused(model, capsys, tree, output="new")
    (model.folder.parent / "out" / MANIFEST_FILE).unlink()
    assert "nobody knows of what run" in refused(model, capsys, tree)


def test_a_second_run_in_the_same_folder_waits_its_turn(model, tree, capsys):
    with locked(model.folder.parent / "out"):
        assert "another run is writing there" in refused(model, capsys, tree)


def test_the_output_may_lie_among_the_inputs(model, tree):
    first = contents(make(model, tree, "--spectra", output="tree/out"))
    assert contents(make(model, tree, "--spectra", output="tree/out")) == first
    assert len(rows(tree / "out", "objects")) == 3


def test_a_worker_with_other_weights_refuses(tmp_path):
    folder = write_stand_in_folder(tmp_path / "model")
    with pytest.raises(ValueError, match="expected the same model on every worker"):
        partition_module.load_resolver(str(folder), "0" * 64, 0)


def test_inputs_that_cannot_be_used_say_what_to_do(model, tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engine, "_ANSWER", "1 s")  # of a scheduler that is not there
    table = catalogue_table(2)
    bare, odd, wrong = tmp_path / "bare.parquet", tmp_path / "odd.parquet", tmp_path / "wrong.parquet"
    pq.write_table(table, bare)
    pq.write_table(table.drop_columns(["error"]), odd)
    pq.write_table(with_units(table, {"flux": "furlong/parsec2", "wavelength": "um"}), wrong)
    Table({"place": ["a"]}).write(tmp_path / "t.csv")
    (tmp_path / "empty").mkdir()
    cases = [
        ([bare], ["has no unit", "--flux-unit"]),
        ([odd], ["no column of errors", "--error", "--ivar"]),
        ([bare, "--flux", "nothing"], ["no column nothing (--flux)", "object_id"]),
        ([bare, "--flux", "object_id"], ["expected a list of numbers"]),
        ([wrong], ["unknown unit", "furlong"]),
        ([bare, tree], ["inputs of one kind"]),
        ([tmp_path / "t.csv"], ["--path COLUMN", "place"]),
        ([tmp_path / "empty"], ["no spectrum found"]),
        ([tree, "--scheduler", "tcp://127.0.0.1:1"], ["no answer", "dask scheduler"]),
    ]
    for number, (arguments, texts) in enumerate(cases):
        error = refused(model, capsys, *arguments, output=f"o{number}")
        assert error.startswith("error: ")
        for text in texts:
            assert text in error, error


def test_wrong_options_are_status_two(tree):
    for option in (["--workers", "0"], ["--memory", "0"], ["--partition-size", "0"]):
        with pytest.raises(SystemExit) as raised:
            survey.main([str(tree), "--output", "x", *option])
        assert raised.value.code == 2


def test_objects_with_positions_become_a_hats_catalogue(model, tmp_path):
    table = catalogue_table(40)
    ra = np.linspace(0, 359, 40)
    dec = np.linspace(-89, 89, 40)
    ra[3] = np.nan
    table = table.set_column(1, "ra", pa.array(ra)).set_column(2, "dec", pa.array(dec))
    pq.write_table(with_units(table), tmp_path / "c.parquet")
    out = make(model, tmp_path / "c.parquet", "--partition-size", 16)
    text = write_hats(out, read_manifest(out), most_rows=3)
    assert "39 objects" in text and "there already" in write_hats(out, read_manifest(out))
    info = pd.read_csv(out / "hats" / "partition_info.csv")
    found = 0
    for order, pixel in zip(info["Norder"], info["Npix"], strict=True):
        path = out / f"hats/dataset/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"
        part = pq.ParquetFile(path).read()
        index = part["_healpix_29"].to_numpy()
        assert 0 < part.num_rows <= 3 and np.all(np.diff(index) >= 0)
        assert np.all(index >> 2 * (29 - order) == pixel)
        lon, lat = healpix_to_lonlat(index.astype(np.uint64), 29)
        np.testing.assert_allclose(lon.deg, part["ra"].to_numpy(), atol=1e-5)  # 1 degree from the pole
        np.testing.assert_allclose(lat.deg, part["dec"].to_numpy(), atol=1e-6)
        found += part.num_rows
    assert found == 39
    assert pq.read_metadata(out / "hats" / "dataset" / "_metadata").num_rows == 39
    properties = (out / "hats" / "hats.properties").read_text()
    assert "hats_nrows=39\n" in properties and "hats_col_ra=ra\n" in properties


def test_lsdb_opens_the_hats_catalogue(model, tree):
    lsdb = pytest.importorskip("lsdb", reason="lsdb is not installed: pip install lsdb")
    out = make(model, tree)
    write_hats(out, read_manifest(out))
    catalogue = lsdb.open_catalog(out / "hats").compute()
    assert sorted(catalogue["object_id"]) == ["t0", "t1", "t2"]


@pytest.mark.long
def test_the_command_on_processes_of_its_own(tmp_path):
    folder = tiny_model(tmp_path / "model")
    write_catalogue(tmp_path / "c.parquet", 24)
    line = [tmp_path / "c.parquet", "--output", tmp_path / "out", "--model", folder, "--workers", "1"]
    command = [sys.executable, "-m", "kspecsr.survey", *map(str, line), "--partition-size", "8", "--spectra"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "24 inputs in 3 partitions" in first.stdout and "dashboard: http://127.0.0.1:" in first.stdout
    # without a terminal progress is a line a minute, and this takes less
    assert "Traceback" not in first.stderr
    assert "GiB" in first.stdout
    settings = read_manifest(tmp_path / "out")
    assert settings.model_sha256 == weights_hash(folder) and math.isfinite(settings.total)
    # in this process, without Dask, the same to the last bit
    before = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "objects")
    process_partition(str(tmp_path / "out"), settings, 1, 8, str(folder), 0)
    after = contents(tmp_path / "out")
    assert after["objects/part-000001.parquet"] == before["objects/part-000001.parquet"]
