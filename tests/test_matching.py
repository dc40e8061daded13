"""Matching by id and by position, sky groups, splits, configurations."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.building.sources import BuildConfig
from data_pipeline.catalogue import Catalogue, CatalogueError
from data_pipeline.configuration import ConfigurationError, from_dict, to_dict
from data_pipeline.jades_names import jades_file_name
from data_pipeline.pairs.matching import ArchiveFile, MatchConfig, find_catalogue, match, scan_archive
from data_pipeline.pairs.sky_groups import SplitConfig, assign_splits, group_by_position, sky_cell
from data_pipeline.simulation import POPULATIONS
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from data_pipeline.writers.jades import write_jades_x1d

ARCSEC = 1 / 3600


def catalogue(*rows):
    """Rows of (unique_id, tier, ra, dec, redshift, flag)."""
    text = np.array([[r[0], r[0].split("_")[-1], r[1], "goods-s", r[5]] for r in rows], dtype=object).astype(
        str
    )
    number = np.array([[r[2], r[3], r[4]] for r in rows], dtype=float)
    return Catalogue(text[:, 0], text[:, 1], text[:, 2], text[:, 3], *number.T, text[:, 4])


def jades(disperser, tier="goods-s-deephst", source_id="7"):
    return ArchiveFile(f"{tier}/{source_id}_{disperser}.fits", tier, source_id, disperser)


def test_an_id_that_repeats_across_tiers_means_different_galaxies():
    files = [jades(d, t) for d in ("PRISM", "G395M") for t in ("goods-s-deephst", "goods-s-mediumjwst")]
    rows = catalogue(("goods-s-deephst_7", "goods-s-deephst", 53.1, -27.8, 2.0, "A"),
                   ("goods-s-mediumjwst_7", "goods-s-mediumjwst", 53.2, -27.7, 5.0, "B"))  # fmt: skip
    matches, dropped = match(files, rows)
    assert [(m.unique_id, m.redshift) for m in matches] == [
        ("goods-s-deephst_7", 2.0),
        ("goods-s-mediumjwst_7", 5.0),
    ]
    assert all(m.tier in g for m in matches for g in m.gratings) and not dropped


@pytest.mark.parametrize(("apart", "joined"), [(0.15, True), (0.25, False)])
def test_without_ids_positions_decide(apart, joined):
    ra, dec = 53.1, -27.8
    files = [
        ArchiveFile("a_prism.fits", "", "1", "PRISM", ra, dec),
        ArchiveFile("b_g395m.fits", "", "9", "G395M", ra, dec + apart * ARCSEC),
    ]
    matches, dropped = match(files, catalogue(("x_1", "", ra, dec - 0.1 * ARCSEC, 3.0, "A")))
    assert bool(matches) is joined
    if not joined:
        assert (dropped[0].step, dropped[0].reason) == ("grating matched", "too few gratings: 0, 1 needed")


def test_right_ascension_counts_with_the_cosine_of_declination():
    # 0.3 arcsec in coordinate RA at dec 60 are 0.15 arcsec on the sky
    files = [
        ArchiveFile("a.fits", "", "1", "PRISM", 189.0, 60.0),
        ArchiveFile("b.fits", "", "1", "G235M", 189.0 + 0.3 * ARCSEC, 60.0),
    ]
    assert len(match(files, catalogue(("x", "", 189.0, 60.0, 1.0, "A")))[0]) == 1


def test_of_two_observations_the_same_mask_is_taken():
    at = (34.0, -5.0)
    files = [ArchiveFile("gdn-v4_prism_1.fits", "", "1", "PRISM", *at),
             ArchiveFile("gdn198-v4_g395m_1.fits", "", "1", "G395M", *at),
             ArchiveFile("gdn-v4_g395m_1.fits", "", "1", "G395M", *at)]  # fmt: skip
    assert match(files, catalogue(("x", "", *at, 1.0, "A")))[0][0].gratings == ("gdn-v4_g395m_1.fits",)


@pytest.mark.parametrize(
    ("rows", "config", "step"),
    [
        ([("other_7", "t", 10.0, 10.0, 2.0, "A")], MatchConfig(), "in catalogue"),
        ([("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, "D")], MatchConfig(), "secure redshift"),
        ([("goods-s-deephst_7", "t", 10.0, 10.0, np.nan, "A")], MatchConfig(), "secure redshift"),
        (
            [("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, "A")],
            MatchConfig(minimum_gratings=3),
            "grating matched",
        ),
    ],
)
def test_what_is_dropped_says_at_which_step(rows, config, step):
    matches, dropped = match([jades("PRISM"), jades("G395M"), jades("G140M")], catalogue(*rows), config)
    assert not matches and dropped[0].step == step and dropped[0].unique_id == "goods-s-deephst_7"


def test_insecure_flags_can_be_let_in():
    rows = catalogue(("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, "D"))
    assert match([jades("PRISM"), jades("G395M")], rows, MatchConfig(flags="ABCD"))[0]


def test_a_bad_file_costs_itself_only(tmp_path):
    (tmp_path / "broken.spec.fits").write_bytes(b"SIMPLE  = nonsense")
    name = "hlsp_jades_jwst_nirspec_goods-s-deephst-00000007_clear-prism_v1.0_x1d.fits"
    (tmp_path / name).write_bytes(b"not opened by a scan")
    files, dropped = scan_archive(tmp_path)
    assert [f.source_id for f in files] == ["7"]
    assert dropped[0].step == "file readable" and "broken.spec.fits" in dropped[0].reason


def test_missing_archives_and_catalogues_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no FITS file"):
        scan_archive(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        scan_archive(tmp_path / "nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"expected one catalogue, found none; name it with --catalogue"
    ):
        find_catalogue(tmp_path)
    for name in ("a_catalog.fits", "b_catalog.fits"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"a_catalog.fits, .*b_catalog.fits"):
        find_catalogue(tmp_path)


def test_groups_are_friends_of_friends():
    dec = np.array([0.0, 0.25, 0.5, 3.0, np.nan]) * ARCSEC
    groups = group_by_position(np.full(5, 10.0), dec, 0.3)
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups[2:])) == 3
    with pytest.raises(ValueError, match="positive separation, got 0 arcsec"):
        group_by_position(np.zeros(1), np.zeros(1), 0)


@given(st.integers(0, 10**6), st.integers(2, 60))
def test_no_group_crosses_a_split(seed, n):
    rng = np.random.default_rng(seed)
    galaxy = rng.integers(0, max(n // 2, 1), n)
    ra = 53 + galaxy * 1e-3 + rng.uniform(-0.1, 0.1, n) * ARCSEC
    dec = -27 + rng.uniform(-0.1, 0.1, n) * ARCSEC
    names = [f"tier{rng.integers(3)}_{k}" for k in range(n)]
    groups = group_by_position(ra, dec, 0.3)
    splits = np.array(assign_splits(names, ra, dec, groups, SplitConfig(seed=seed)))
    for one in np.unique(galaxy):
        assert len(set(splits[galaxy == one])) == 1
    order = rng.permutation(n)
    again = assign_splits(
        [names[i] for i in order], ra[order], dec[order], groups[order], SplitConfig(seed=seed)
    )
    assert list(splits[order]) == again


def test_split_fractions_and_their_stability():
    rng = np.random.default_rng(1)
    names = [f"t_{i}" for i in range(6000)]
    ra, dec = rng.uniform(53.0, 53.5, 6000), rng.uniform(-28.0, -27.5, 6000)
    groups = np.arange(6000)
    splits = np.array(assign_splits(names, ra, dec, groups, SplitConfig()))
    assert np.mean(splits == "test") == pytest.approx(0.2, abs=0.02)
    assert np.mean(splits == "validation") == pytest.approx(0.08, abs=0.015)
    some = assign_splits(names[:100], ra[:100], dec[:100], groups[:100], SplitConfig())
    assert list(splits[:100]) == some
    other = np.array(assign_splits(names, ra, dec, groups, SplitConfig(seed=1)))
    assert np.mean(other[splits == "test"] == "test") == pytest.approx(0.2, abs=0.04)


def test_a_new_observation_moves_nobody():
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(53.0, 53.5, 800), rng.uniform(-28.0, -27.5, 800)
    names = [f"t_{i}" for i in range(800)]
    before = assign_splits(names, ra, dec, group_by_position(ra, dec), SplitConfig())
    # every galaxy observed once more, under an id that sorts first
    ra2 = np.concatenate([ra, ra + rng.normal(0, 0.02, 800) * ARCSEC])
    dec2 = np.concatenate([dec, dec + rng.normal(0, 0.02, 800) * ARCSEC])
    names2 = names + [f"a_{i}" for i in range(800)]
    after = assign_splits(names2, ra2, dec2, group_by_position(ra2, dec2), SplitConfig())
    assert np.mean(np.array(before) != np.array(after[:800])) < 0.01
    assert after[:800] == after[800:]


def test_cells_have_their_size_and_know_no_meridian():
    one, other = sky_cell(359.99999, 60.0, 10.0), sky_cell(-0.00001, 60.0, 10.0)
    assert one == other and sky_cell(np.nan, 0.0, 10.0) == ""
    ra = np.linspace(10.0, 10.1, 2001)
    cells = [sky_cell(x, 60.0, 10.0) for x in ra]
    # 0.1 deg in right ascension are 180 arcsec at declination 60
    assert len(set(cells)) in (18, 19)


def test_build_configuration_round_trips_and_refuses_unknown_keys():
    config = BuildConfig(archive="x", matching=MatchConfig(flags="AB"), columns=("ra=RA",))
    data = json.loads(json.dumps(to_dict(config)))
    assert from_dict(BuildConfig, data) == config
    with pytest.raises(
        ConfigurationError, match=r"BuildConfig.matching: unknown key flag; known keys: separation_arcsec"
    ):
        from_dict(BuildConfig, {**data, "matching": {"flag": "A"}})
    with pytest.raises(ConfigurationError, match=r"BuildConfig.n: expected int, got 'many'"):
        from_dict(BuildConfig, {**data, "n": "many"})
    with pytest.raises(ConfigurationError, match=r"trim: expected 2 values"):
        from_dict(BuildConfig, {**data, "augmentation": {"trim": [1.0]}})


def test_build_configuration_is_checked():
    for change, text in (
        ({"source": "sky"}, "expected source archive or simulation, got 'sky'"),
        ({"archive": ""}, "an archive build needs --archive DIR"),
        ({"source": "simulation", "archive": ""}, "a simulation needs --n of 1 or more, got 0"),
        ({"n": 5}, "--n and --population belong to a simulation"),
        ({"population": "wide"}, "--n and --population belong to a simulation"),
        ({"source": "simulation", "n": 5}, "--archive, --catalogue and --columns have no meaning"),
        (
            {"source": "simulation", "n": 5, "archive": ""},
            f"expected population {' or '.join(POPULATIONS)}, got ''",
        ),
        ({"seed": -1}, "expected a seed of 0 to"),
        ({"chunk_size": 0}, "chunk_size of 1 or more"),
        ({"lines": "second"}, "expected lines first or second, for an archive first .*, got 'second'"),
    ):
        with pytest.raises(ValueError, match=text):
            dataclasses.replace(BuildConfig(archive="x"), **change)


def test_the_same_id_with_two_redshifts_is_an_error():
    rows = catalogue(
        ("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, "A"), ("goods-s-deephst_7", "t", 10.0, 10.0, 3.0, "A")
    )
    with pytest.raises(
        CatalogueError, match=r"id 'goods-s-deephst_7' stands in rows 0 and 1 with redshifts 2.0 and 3.0"
    ):
        match([jades("PRISM"), jades("G395M")], rows)
    same = catalogue(
        ("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, "A"), ("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, "A")
    )
    assert len(match([jades("PRISM"), jades("G395M")], same)[0]) == 1


def test_an_empty_flag_is_secure_only_where_no_row_has_one():
    files = [jades("PRISM"), jades("G395M")]
    bare = catalogue(("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, ""))
    assert len(match(files, bare)[0]) == 1
    flagged = catalogue(("goods-s-deephst_7", "t", 10.0, 10.0, 2.0, ""), ("x_1", "t", 11.0, 10.0, 2.0, "A"))
    matches, dropped = match(files, flagged)
    assert not matches and dropped[0].reason.startswith("insecure redshift: flag ''")


def test_jades_files_of_unknown_id_are_found_by_the_position_in_their_header(tmp_path):
    spectra = {}
    for name in ("PRISM", "G395M"):
        meta = SpectrumMeta(
            source_id="7", ra=53.1, dec=-27.8, disperser=name, filter="CLEAR", tier="goods-s-deephst"
        )
        wave = np.linspace(3.0, 4.0, 50)
        one = ObservedSpectrum(wave, np.ones(50) * 1e-20, np.ones(50) * 1e-21, np.zeros(50, bool), meta)
        path = tmp_path / jades_file_name("goods-s-deephst", 7, "clear", name)
        write_jades_x1d(path, one, one)
        spectra[name] = path
    files, _ = scan_archive(tmp_path)
    rows = catalogue(("other_name", "", 53.1, -27.8 + 0.1 * ARCSEC, 3.0, "A"))
    assert [m.redshift for m in match(files, rows)[0]] == [3.0]
    far = catalogue(("other_name", "", 53.1, -27.8 + 0.3 * ARCSEC, 3.0, "A"))
    assert match(files, far)[1][0].step == "in catalogue"
