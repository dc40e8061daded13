import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.table import Table

from data_pipeline.catalogue.known_redshifts import KnownRedshifts
from enhancement_sample import BINS, IDENTITY, LINE_FLUX, REDSHIFT, SecondStandIn, StandIn, prism_spectrum
from kspecsr.catalogue import main
from kspecsr.results.data import SpectrumResult
from kspecsr.results.many import agreement, as_table, as_text
from kspecsr.results.reading import read_result
from kspecsr.results.table import read_row, result_files
from kspecsr.super_resolver import SuperResolver

LINE_ROWS = ("Halpha", "[OIII]_5008", "[OII]_3730")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two results at z = 3.235, one of them flagged since its P(z) is flat."""
    folder = tmp_path_factory.mktemp("results")
    clear, vague = SuperResolver(StandIn(), IDENTITY, BINS), SuperResolver(StandIn(width=3.0), IDENTITY, BINS)
    clear(prism_spectrum()).write(folder / "clear_sr.fits")
    vague(prism_spectrum(seed=2)).write(folder / "vague_sr.fits")
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    path = tmp_path_factory.mktemp("known") / "z.csv"
    path.write_text("file,z\nclear,3.2350\nvague,1.0\n")
    return path


def test_a_row_holds_redshift_consistency_and_the_strongest_line(results, known):
    row = read_row(results / "clear_sr.fits", KnownRedshifts.parse(f"{known}:z"))
    assert row.z == pytest.approx(REDSHIFT)
    assert row.offset == pytest.approx(0.0, abs=1e-6)
    assert row.z_confidence > 0.9
    assert row.chi_square > 0
    assert row.brightest_line == "[OIII]_5008"
    assert row.brightest_flux == pytest.approx(LINE_FLUX["[OIII]_5008"], rel=1e-4, abs=0)
    assert row.flags == ""


def test_a_flagged_result_has_no_line(results):
    row = read_row(results / "vague_sr.fits", KnownRedshifts())
    assert "NO_CLEAR_REDSHIFT" in row.flags
    assert row.brightest_line == ""
    assert math.isnan(row.brightest_flux) and math.isnan(row.known)


def test_agreement_counts_close_wrong_and_flagged(results, known):
    redshifts = KnownRedshifts.parse(f"{known}:z")
    rows = [read_row(path, redshifts) for path in result_files([results])]
    text = agreement(rows)
    shown = as_text([read_row(path, KnownRedshifts()) for path in result_files([results])], compare=True)
    assert "nan" not in shown and "         -" in shown  # a dash where there is nothing
    assert "2 known redshifts: 1 within 0.005 (1 + z), 0 further off and not flagged, 1 flagged" in text


def test_a_given_redshift_is_no_agreement(known, tmp_path):
    SuperResolver(StandIn(), IDENTITY, BINS)(prism_spectrum(), redshift=3.235).write(
        tmp_path / "clear_sr.fits"
    )
    row = read_row(tmp_path / "clear_sr.fits", KnownRedshifts.parse(f"{known}:z"))
    assert row.z_given
    assert "0 known redshifts" in agreement([row])
    assert "1 made at a given redshift, not compared" in agreement([row])
    assert math.isnan(row.offset)
    assert "NMAD unknown" in (text := as_text([row], compare=True)) and " given " in text
    assert as_table([row])["Z_GIVEN"].tolist() == [True]


def test_the_line_shown_is_the_brightest_and_not_the_most_significant(results, tmp_path):
    path = shutil.copy(results / "clear_sr.fits", tmp_path)
    with fits.open(path, mode="update") as hdus:
        lines = hdus["LINES"].data
        bright, dim, doubtful = ([n.strip() for n in lines["NAME"]].index(name) for name in LINE_ROWS)
        for row, flux, snr in ((bright, 9e-18, 4.0), (dim, 1e-18, 90.0), (doubtful, 5e-17, 2.9)):
            lines["FLUX"][row], lines["FLUX_ERR"][row], lines["SNR"][row] = flux, flux / snr, snr
    row = read_row(Path(path), KnownRedshifts())
    assert row.brightest_line == LINE_ROWS[0]
    assert row.brightest_flux == pytest.approx(9e-18, rel=1e-6, abs=0)
    assert row.brightest_flux_error == pytest.approx(9e-18 / 4, rel=1e-6, abs=0)


def test_objects_are_found_by_their_id_and_unknown_ones_counted(results, tmp_path):
    table = tmp_path / "ids.csv"
    table.write_text("Unique_ID,z_Spec\ngoods-s_1234,3.235\nelsewhere_1,-1\n")
    row = read_row(results / "clear_sr.fits", KnownRedshifts.parse(f"{table}:z_Spec:Unique_ID"))
    assert row.known == pytest.approx(3.235)
    unknown = read_row(results / "clear_sr.fits", KnownRedshifts())
    assert "1 results without a redshift in the table" in agreement([row, unknown])


def test_a_table_that_matches_nothing_says_so(results, tmp_path, capsys):
    (tmp_path / "z.csv").write_text("file,z\nother,2.0\n")
    assert main([str(results), "--known", f"{tmp_path / 'z.csv'}:z"]) == 0
    out = capsys.readouterr().out
    assert "0 known redshifts" in out and "2 results without a redshift in the table" in out
    assert main([str(results), "--known", "no.csv:z"]) == 1
    assert "--known no.csv:z: no.csv is no file" in capsys.readouterr().err


def test_the_command_prints_and_writes_the_table(results, known, tmp_path, capsys):
    output = tmp_path / "catalogue.ecsv"
    assert main([str(results), "--known", f"{known}:z", "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert "clear" in out and "vague" in out and "NMAD" in out
    table = Table.read(output)
    assert table["NAME"].tolist() == ["clear", "vague"]
    assert table["LINE_FLUX"].unit.to_string() == "erg / (s cm2)"
    assert table["Z"][0] == pytest.approx(REDSHIFT)


def test_a_poor_fit_is_called_so_where_no_flag_says_more(results):
    rows = [replace(read_row(path, KnownRedshifts()), chi_square=774.0) for path in result_files([results])]
    one, other = as_text(rows, compare=False).splitlines()[1:3]
    assert one.endswith("774.00  [OIII]_5008     300.0     2.0  poor fit") and other.endswith("REDSHIFT")
    assert "poor" not in as_text([replace(rows[0], chi_square=1.0)], compare=False)


def test_the_share_of_worse_fits_decides_where_it_is_stated(results):
    row = read_row(results / "clear_sr.fits", KnownRedshifts())
    bright, odd = replace(row, chi_square=8.0, p_fit=0.2), replace(row, chi_square=1.5, p_fit=1e-4)
    assert not bright.poor_fit and odd.poor_fit
    head, one, other = as_text([bright, odd], compare=False).splitlines()[:3]
    assert (
        "P_FIT" in head
        and one.endswith("2.0")
        and other.endswith(" 0.0001  [OIII]_5008     300.0     2.0  poor fit")
    )
    table = as_table([bright, odd, replace(row, chi_square=8.0)])
    assert table["POOR_FIT"].tolist() == [False, True, True]
    assert table["POOR_FIT"].description == "P_FIT below 0.001; where none is stated, CHI2NU above 3"


def test_classes_and_ratios_are_in_the_tables(tmp_path, capsys):
    SuperResolver(SecondStandIn(), IDENTITY, BINS)(prism_spectrum()).write(tmp_path / "a_sr.fits")
    SuperResolver(StandIn(), IDENTITY, BINS)(prism_spectrum()).write(tmp_path / "b_sr.fits")
    paths = {name: tmp_path / f"{name}.ecsv" for name in ("output", "ratios")}
    assert main([str(tmp_path), *(str(x) for name, path in paths.items() for x in (f"--{name}", path))]) == 0
    head, first, second = capsys.readouterr().out.splitlines()[:3]
    assert "class" in head and first.endswith("broad lines") and "broad" not in second
    table = Table.read(paths["output"])
    assert table["CLASS"][0] == "broad lines" and table["P_NONE"][0] == 0.25
    assert [table[f"PCLASS{k}"][0] for k in (1, 2, 3, 4, 5)] == pytest.approx([0.1, 0.2, 0.4, 0.25, 0.05])
    assert math.isnan(table["PCLASS1"][1]) and math.isnan(table["P_NONE"][1])
    ratios = Table.read(paths["ratios"])
    result = read_result(tmp_path / "a_sr.fits", SpectrumResult)
    mine = ratios[ratios["SPECTRUM"] == "a"]
    assert mine["NAME"].tolist() == result.ratios["NAME"].tolist() and mine["CORRELATED"].all()
    assert mine["P50"].tolist() == pytest.approx(result.ratios["P50"].tolist(), rel=1e-6, abs=1e-25)
    assert not ratios["CORRELATED"][ratios["SPECTRUM"] == "b"].any()


def test_the_command_writes_all_lines(results, tmp_path, capsys):
    assert main([str(results), "--lines", str(tmp_path / "lines.ecsv")]) == 0
    lines = Table.read(tmp_path / "lines.ecsv", format="ascii.ecsv")
    assert set(lines["SPECTRUM"]) == {"clear"}
    assert lines.meta["without_lines"] == {"vague": ["NO_CLEAR_REDSHIFT"]}
    assert list(lines["NAME"][lines["DETECTED"]]) == list(LINE_FLUX)
    assert main([str(results), "--lines", str(tmp_path / "lines.txt")]) == 2
    assert "lines.txt: expected a name that ends in .ecsv" in capsys.readouterr().err


def test_what_is_no_result_is_listed_and_the_rest_goes_on(results, tmp_path, capsys):
    bad = tmp_path / "bad_sr.fits"
    bad.write_text("not a FITS file")
    assert main([str(results), str(bad)]) == 1
    captured = capsys.readouterr()
    assert "clear" in captured.out
    assert "bad_sr.fits: no readable result" in captured.err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 1
    assert "no result (*_sr.fits) found; make some with kspecsr enhance" in capsys.readouterr().err
    assert main([str(results), "--output", "table.txt"]) == 2
