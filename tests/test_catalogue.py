import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from data_pipeline.catalogue import read_catalogue
from data_pipeline.catalogue.table import CatalogueError, parse_columns
from data_pipeline.writers.jades import write_jades_catalogue
from layouts import table, write

N = 6
FLAGS = np.array(["A", "B", "C", "D", "E", "A"])


def columns(**changes):
    tier = np.array(["goods-n-mediumhst"] * 3 + ["goods-s-ultradeep"] * 3)
    number = np.arange(101, 107)
    return {
        "Unique_ID": np.array([f"{t}_{i}" for t, i in zip(tier, number, strict=True)]),
        "TIER": tier,
        "NIRSpec_ID": number,
        "RA_TARG": np.linspace(53, 54, N),
        "Dec_TARG": np.linspace(-28, -27, N),
        "Field": np.array(["GN"] * 3 + ["GS"] * 3),
        "z_Spec": np.array([1.0, 2.0, 3.0, 4.0, -1.0, 6.0]),
        "z_Spec_flag": FLAGS,
        "z_R1000": np.array([1.001, -1.0, 3.001, np.nan, -1.0, 6.001]),
        "O3_5007_flux": np.arange(1.0, N + 1),
        "O3_5007_flux_err": np.full(N, 0.1),
        "HBaA_6563_flux": np.arange(11.0, N + 11),
        "HBaA_6563_flux_err": np.full(N, 0.2),
    } | changes


@pytest.fixture
def dr4(tmp_path):
    write_jades_catalogue(tmp_path / "dr4.fits", columns())
    return tmp_path / "dr4.fits"


def test_dr4_round_trip(dr4):
    catalogue = read_catalogue(dr4)
    written = columns()
    assert len(catalogue) == N
    for name, column in (
        ("unique_id", "Unique_ID"),
        ("tier", "TIER"),
        ("ra", "RA_TARG"),
        ("dec", "Dec_TARG"),
    ):
        np.testing.assert_array_equal(getattr(catalogue, name), written[column])
    assert catalogue.source_id.tolist() == ["101", "102", "103", "104", "105", "106"]
    assert catalogue.field.tolist() == ["goods-n"] * 3 + ["goods-s"] * 3
    assert catalogue.redshift_flag.tolist() == FLAGS.tolist()


def test_grating_redshift_is_preferred_and_minus_one_is_none(dr4):
    np.testing.assert_array_equal(read_catalogue(dr4).redshift, [1.001, 2.0, 3.001, 4.0, np.nan, 6.001])


def test_line_fluxes_are_in_physical_units(dr4):
    catalogue = read_catalogue(dr4)
    assert set(catalogue.grating_lines) == {"O3_5007", "HBaA_6563"}
    assert not catalogue.prism_lines
    line = catalogue.grating_lines["O3_5007"]
    np.testing.assert_allclose(line.flux, np.arange(1, N + 1) * 1e-20, rtol=1e-12)  # erg/s/cm2
    np.testing.assert_allclose(line.error, 1e-21, rtol=1e-12)


def test_flags_and_line_fluxes_keep_the_order_of_the_rows(dr4):
    catalogue = read_catalogue(dr4)
    secure = np.isin(catalogue.redshift_flag, list("ABC"))
    assert catalogue.redshift_flag[secure].tolist() == ["A", "B", "C", "A"]
    flux = catalogue.grating_lines["HBaA_6563"].flux[secure]
    np.testing.assert_allclose(flux, np.array([11, 12, 13, 16]) * 1e-20)
    # flag E has no redshift
    assert not np.isfinite(catalogue.redshift[catalogue.redshift_flag == "E"]).any()


def dr4_hdus(
    line_names=("R1000_3pix", "R1000_5pix", "R100_3pix"), line="O3_5007", order=slice(None), **changes
):
    data = columns(**changes)
    kinds = {"U": "24A", "i": "K", "f": "D"}
    info = [(name, kinds[np.asarray(data[name]).dtype.kind], None, data[name]) for name in list(data)[:9]]
    hdus = [table(info, "Obs_info")]
    for factor, name in enumerate(line_names, start=1):
        lines = [
            ("Unique_ID", "24A", None, data["Unique_ID"][order]),
            (f"{line}_flux", "D", None, (factor * data["O3_5007_flux"])[order]),
            (f"{line}_flux_err", "D", None, (factor * data["O3_5007_flux_err"])[order]),
            (f"{line}_SNR", "D", None, np.ones(N)),
        ]
        hdus.append(table(lines, name))
    return hdus


@pytest.mark.parametrize("prism", ["R100_3pix", "PRISM_3pix"])
def test_hdu_aliases_and_extraction(tmp_path, prism):
    write(tmp_path / "c.fits", {}, *dr4_hdus(("R1000_3pix", "R1000_5pix", prism)))
    three, five = read_catalogue(tmp_path / "c.fits"), read_catalogue(tmp_path / "c.fits", extraction="5pix")
    np.testing.assert_allclose(three.grating_lines["O3_5007"].flux, np.arange(1, N + 1) * 1e-20)
    np.testing.assert_allclose(five.grating_lines["O3_5007"].flux, np.arange(1, N + 1) * 2e-20)
    np.testing.assert_allclose(three.prism_lines["O3_5007"].flux, np.arange(1, N + 1) * 3e-20)
    assert not five.prism_lines


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("HA_6563", "HBaA_6563"),
        ("HBaA_6563", "HBaA_6563"),
        ("HB_4861", "HBaB_4861"),
        ("Blnd_HA_N2", "Blnd_HBaA_N2"),
        ("HE1_5875", "HE1_5875"),
        ("S2_6718", "S2_6718"),
    ],
)
def test_line_name_aliases(tmp_path, written, read):
    write(tmp_path / "c.fits", {}, *dr4_hdus(line=written))
    assert set(read_catalogue(tmp_path / "c.fits").grating_lines) == {read}


def test_line_table_in_another_order_is_matched_by_id(tmp_path):
    write(tmp_path / "c.fits", {}, *dr4_hdus(order=slice(None, None, -1)))
    flux = read_catalogue(tmp_path / "c.fits").grating_lines["O3_5007"].flux
    np.testing.assert_allclose(flux, np.arange(1, N + 1) * 1e-20)


def test_line_table_of_other_objects_is_refused(tmp_path):
    hdus = dr4_hdus()
    hdus[1].data["Unique_ID"][2] = "goods-n-other_7"
    write(tmp_path / "c.fits", {}, *hdus)
    with pytest.raises(
        CatalogueError, match=r"c\.fits\[R1000_3PIX\]: column Unique_ID lacks 1 objects .*_103"
    ):
        read_catalogue(tmp_path / "c.fits")


def test_dr3_prism_catalogue(tmp_path):
    data = [
        ("NIRSpec_ID", "K", None, np.arange(1, 4)),
        ("TIER", "20A", None, np.array(["medium_hst_gn"] * 3)),
        ("Field", "2A", None, np.array(["GN"] * 3)),
        ("RA_TARG", "D", "deg", np.ones(3)),
        ("Dec_TARG", "D", "deg", np.ones(3)),
        ("z_Spec", "D", None, np.array([1.0, -1.0, 2.0])),
        ("z_Spec_flag", "1A", None, np.array(["A", "E", "B"])),
        ("PRISM_flux_flag", "K", None, np.ones(3)),
        ("HA_6563_flux", "D", "1e-20 erg/s/cm2", np.ones(3)),
        ("HA_6563_flux_err", "D", "1e-20 erg/s/cm2", np.ones(3)),
    ]
    write(tmp_path / "dr3.fits", {}, table(data))
    catalogue = read_catalogue(tmp_path / "dr3.fits")
    assert catalogue.unique_id.tolist() == [f"goods-n-mediumhst_{k}" for k in (1, 2, 3)]
    np.testing.assert_array_equal(catalogue.redshift, [1.0, np.nan, 2.0])
    np.testing.assert_allclose(catalogue.prism_lines["HBaA_6563"].flux, 1e-20)
    assert not catalogue.grating_lines


# stated columns ----------------------------------------------------------------------------------------

OTHER = {
    "name": ["007", "012", "x3"],
    "zbest": [0.5, -1.0, 2.0],
    "alpha": [1.0, 2.0, 3.0],
    "quality": ["a", "b", "d"],
}
MAPPING = parse_columns("redshift=zbest, source_id=name, ra=alpha, redshift_flag=quality")


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits"])
def test_any_table_with_stated_columns(tmp_path, suffix):
    path = tmp_path / f"other.{suffix}"
    Table(OTHER).write(path)
    catalogue = read_catalogue(path, MAPPING)
    assert catalogue.source_id.tolist()[2] == "x3"
    assert catalogue.source_id.tolist()[:2] == ["7", "12"]
    assert catalogue.unique_id.tolist() == catalogue.source_id.tolist()
    np.testing.assert_array_equal(catalogue.redshift, [0.5, np.nan, 2.0])
    np.testing.assert_array_equal(catalogue.ra, [1, 2, 3])
    assert np.isnan(catalogue.dec).all()
    assert catalogue.redshift_flag.tolist() == ["A", "B", "D"]


def test_blank_cells_are_unknown(tmp_path):
    path = tmp_path / "blank.csv"
    path.write_text("id,z,ra,tier\n1,0.5,10,a\n2,,,\n")
    catalogue = read_catalogue(path)
    np.testing.assert_array_equal(catalogue.redshift, [0.5, np.nan])
    np.testing.assert_array_equal(catalogue.ra, [10, np.nan])
    assert catalogue.tier.tolist() == ["a", ""]
    assert catalogue.unique_id.tolist() == ["a_1", "2"]


def test_usual_names_need_no_mapping(tmp_path):
    path = tmp_path / "usual.csv"
    path.write_text("Unique_ID,field,ra,dec,z_spec,z_flag\ngoods-n-deep_3,GN,1,2,3.5,A\n")
    catalogue = read_catalogue(path)
    assert (catalogue.source_id[0], catalogue.field[0], catalogue.redshift[0]) == ("3", "goods-n", 3.5)
    assert catalogue.redshift_flag.tolist() == ["A"]


def test_a_table_without_flags_has_blank_ones(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("id,z\n1,0.5\n2,-1\n")
    assert read_catalogue(path).redshift_flag.tolist() == ["", ""]


def test_stated_hdu(tmp_path):
    first = table([("id", "K", None, np.array([1])), ("z", "D", None, np.array([1.0]))], "FIRST")
    second = table([("id", "K", None, np.array([2])), ("z", "D", None, np.array([2.0]))], "SECOND")
    write(tmp_path / "two.fits", {}, first, second)
    for text in ("hdu=2", "hdu=SECOND"):
        assert read_catalogue(tmp_path / "two.fits", parse_columns(text)).redshift[0] == 2.0
    assert read_catalogue(tmp_path / "two.fits").redshift[0] == 1.0
    with pytest.raises(CatalogueError, match=r"HDU 'THIRD' is missing; the file has tables FIRST, SECOND"):
        read_catalogue(tmp_path / "two.fits", {"hdu": "THIRD"})


def test_no_text_states_no_column():
    assert parse_columns("") == {}


def test_a_stated_redshift_is_not_overruled_by_the_gratings(dr4):
    stated = read_catalogue(dr4, {"redshift": "z_Spec"})
    np.testing.assert_array_equal(stated.redshift, [1.0, 2.0, 3.0, 4.0, np.nan, 6.0])
    both = read_catalogue(dr4, {"redshift": "z_Spec", "redshift_grating": "z_R1000"})
    np.testing.assert_array_equal(both.redshift, read_catalogue(dr4).redshift)


@pytest.mark.parametrize("text", ["redshift", "colour=B-V", "ra=", "ra=a,ra=b"])
def test_mapping_text_that_is_not_understood(text):
    with pytest.raises(
        CatalogueError, match=r"is not understood; expected role=column.*redshift, redshift_grating"
    ):
        parse_columns(text)


# errors ------------------------------------------------------------------------------------------------


def test_missing_columns_list_the_candidates(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,colour\n1,2\n")
    with pytest.raises(
        CatalogueError, match=r"x\.csv: no column for redshift; looked for z_Spec, .*the table has id, colour"
    ):
        read_catalogue(path)
    path.write_text("name,z\n1,2\n")
    with pytest.raises(
        CatalogueError, match=r"no column for source_id; looked for NIRSpec_ID, .*the table has name, z"
    ):
        read_catalogue(path)
    with pytest.raises(
        CatalogueError, match=r"column 'zz', stated for redshift, is missing; the table has name, z"
    ):
        read_catalogue(path, {"redshift": "zz", "source_id": "name"})


def test_column_of_the_wrong_kind(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,z\n1,high\n2,0.3\n")
    with pytest.raises(CatalogueError, match=r"x\.csv: column z should hold numbers .*'high'"):
        read_catalogue(path)


def test_line_flux_in_no_flux_unit(tmp_path):
    hdus = dr4_hdus()
    hdus[1].header["TUNIT2"] = "Angstrom"
    write(tmp_path / "c.fits", {}, *hdus)
    with pytest.raises(
        CatalogueError, match=r"\[R1000_3PIX\]: column O3_5007_flux has the unit 'Angstrom'; expected"
    ):
        read_catalogue(tmp_path / "c.fits")


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits"])
def test_missing_catalogue(tmp_path, suffix):
    with pytest.raises(CatalogueError, match=rf"none\.{suffix}: no such file"):
        read_catalogue(tmp_path / f"none.{suffix}")


def test_files_that_are_no_catalogue(tmp_path):
    (tmp_path / "image.fits").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CatalogueError, match=r"image\.fits: is a PNG image"):
        read_catalogue(tmp_path / "image.fits")
    write(tmp_path / "empty.fits", {}, fits.ImageHDU(np.zeros((2, 2))))
    with pytest.raises(CatalogueError, match=r"empty\.fits: holds no table"):
        read_catalogue(tmp_path / "empty.fits")
    (tmp_path / "bad.ecsv").write_text("# %ECSV 1.0\n# ---\n# datatype: [\n")
    with pytest.raises(CatalogueError, match=r"bad\.ecsv: no readable ECSV table"):
        read_catalogue(tmp_path / "bad.ecsv")


def test_truncated_catalogue(dr4):
    with dr4.open("r+b") as stream:
        stream.truncate(2880 * 3 + 100)  # after Obs_info, within the line tables
    with pytest.raises(CatalogueError, match=r"dr4\.fits: truncated, 8740 bytes is no multiple of 2880"):
        read_catalogue(dr4)


# writer ------------------------------------------------------------------------------------------------


def test_writer_checks_its_table(tmp_path):
    short = columns()
    del short["z_R1000"], short["TIER"]
    with pytest.raises(ValueError, match=r"columns TIER, z_R1000 are missing; got Unique_ID"):
        write_jades_catalogue(tmp_path / "c.fits", short)
    with pytest.raises(ValueError, match=r"expected columns of equal length"):
        write_jades_catalogue(tmp_path / "c.fits", columns(z_Spec=np.zeros(2)))
    assert list(tmp_path.iterdir()) == []


def test_writer_keeps_further_columns_and_reads_without_warnings(tmp_path):
    write_jades_catalogue(tmp_path / "c.fits", columns(PID=np.full(N, 1180), MUV=np.linspace(-20, -18, N)))
    with fits.open(tmp_path / "c.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "OBS_INFO", "R1000_5PIX", "R1000_3PIX"]
        assert {"PID", "MUV"} <= set(hdus["Obs_info"].columns.names)
        assert not any(name.endswith("_flux") for name in hdus["Obs_info"].columns.names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_catalogue(tmp_path / "c.fits")) == N
        Table.read(tmp_path / "c.fits", hdu="R1000_3pix")


def test_writer_of_an_empty_catalogue(tmp_path):
    write_jades_catalogue(tmp_path / "c.fits", {name: values[:0] for name, values in columns().items()})
    with pytest.raises(CatalogueError, match=r"c\.fits\[OBS_INFO\]: holds no rows"):
        read_catalogue(tmp_path / "c.fits")
