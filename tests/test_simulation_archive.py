"""A simulated archive: layout, catalogue, truth, resumption."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.lines.catalogue_fit import CATALOGUE_LINES, measure_lines, positive_estimate
from data_pipeline.lines.profile import render_lines
from data_pipeline.simulation import Nuisances, SimulationConfig, simulate_batch
from data_pipeline.simulation.archive import CATALOGUE, CHUNK, write_archive
from data_pipeline.simulation.truth import TruthError, TruthReader

N, SEED = CHUNK + 6, 21
NAME = re.compile(r"nirspec_(?P<tier>[a-z0-9-]+?)-(?P<id>\d+)_(?P<fg>[a-z0-9]+-[a-z0-9]+)_v[\d.]+_x1d\.fits$")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    write_archive(root, N, SEED, workers=2, progress=False)
    return root


@pytest.fixture(scope="module")
def batch():
    return simulate_batch(np.arange(N), SEED)


@pytest.fixture(scope="module")
def catalogue(archive):
    with fits.open(archive / CATALOGUE) as hdus:
        return {hdu.name.upper(): {key: hdu.data[key] for key in hdu.columns.names} for hdu in hdus[1:]}


def test_every_file_lies_where_its_name_says(archive, batch):
    files = sorted(archive.glob("goods-*/spectra/*/*/*.fits"))
    assert len(files) == N + batch.grating_taken.sum()
    for path in files:
        found = NAME.search(path.name)
        assert found, path.name
        assert path.parent.name == found["tier"]
        assert path.parents[1].name == found["fg"]
        assert path.parents[3].name == found["tier"][:7]
        assert found["fg"] in {"clear-prism", "f070lp-g140m", "f170lp-g235m", "f290lp-g395m"}
        assert len(found["id"]) == 8
    assert not list(archive.rglob("*.part"))


def test_spectra_hold_the_simulated_pixels(archive, batch):
    for row in (0, 1, CHUNK + 2):
        name = (
            f"hlsp_jades_jwst_nirspec_{batch.tier[row]}-{batch.nirspec_id[row]:08d}_clear-prism_v1.0_x1d.fits"
        )
        path = archive / batch.tier[row][:7] / "spectra" / "clear-prism" / batch.tier[row] / name
        with fits.open(path) as hdus:
            three, five = hdus["EXTRACT3PIX1D"].data, hdus["EXTRACT5PIX1D"].data
            assert hdus[0].header["SIMULATE"]
            assert hdus[0].header["RA"] == pytest.approx(batch.ra[row])
            np.testing.assert_allclose(three["WAVELENGTH"], batch.prism_wavelength)
            np.testing.assert_allclose(three["FLUX"], batch.prism_flux[row], rtol=1e-10)
            np.testing.assert_allclose(three["FLUX_ERR"], batch.prism_error[row], rtol=1e-10)
            np.testing.assert_allclose(five["FLUX_ERR"], 1.3 * three["FLUX_ERR"], rtol=1e-10)
            assert not np.allclose(five["FLUX"], three["FLUX"], equal_nan=True, rtol=1e-3, atol=0)


def test_some_pixels_lack_only_the_error(archive):
    alone = 0
    for path in archive.glob("goods-*/spectra/clear-prism/*/*.fits"):
        with fits.open(path) as hdus:
            data = hdus["EXTRACT3PIX1D"].data
            alone += int((np.isnan(data["FLUX_ERR"]) & np.isfinite(data["FLUX"])).sum())
            assert np.isnan(data["FLUX"][:2]).all()  # edges
    assert alone > 0


def test_catalogue_rows_belong_to_the_spectra(catalogue, batch):
    info, lines = catalogue["OBS_INFO"], catalogue["R1000_3PIX"]
    assert list(info["Unique_ID"]) == list(batch.unique_id)
    assert list(info["TIER"]) == list(batch.tier)
    np.testing.assert_allclose(info["RA_TARG"], batch.ra)
    flags = info["z_Spec_flag"]
    assert set(map(str, flags)) <= set("ABCDE")
    assert (info["z_Spec"][flags == "E"] == -1).all()
    secure = flags == "A"
    assert secure.mean() > 0.6
    assert np.abs((info["z_Spec"] - batch.redshift) / (1 + batch.redshift))[secure].max() < 1e-3
    for name in CATALOGUE_LINES:
        flux = lines[f"{name}_flux"]
        assert (flux[np.isfinite(flux)] >= 0).all()  # as in the JADES catalogue
    halpha, error = lines["HBaA_6563_flux"], lines["HBaA_6563_flux_err"]
    true = batch.line_flux[:, batch.line_names.index("Halpha")] * 1e20
    bright = (halpha > 15 * error) & (batch.broad_velocity_sigma == 0)
    assert bright.sum() > 5
    assert np.median(true[bright] / halpha[bright]) == pytest.approx(1.13, abs=0.1)


def test_truth_is_that_of_the_simulation(archive, batch):
    truth = TruthReader(archive)
    assert len(truth) == N
    assert list(truth) == list(batch.unique_id)
    for row in (0, CHUNK - 1, CHUNK, 3):
        name = batch.unique_id[row]
        assert name in truth
        found = truth.get(name)
        assert found.kind == batch.kind[row]
        assert found.redshift == pytest.approx(batch.redshift[row], rel=1e-12, nan_ok=True)
        np.testing.assert_allclose(found.noise_free, batch.noise_free[row], rtol=1e-6)
        np.testing.assert_allclose(found.line_flux, batch.line_flux[row], rtol=1e-10)
        assert found.line_names == batch.line_names
        dispersers = [arm.removeprefix("nirspec-").upper() for arm in GRATINGS]
        assert [found.arm_scale[name] for name in dispersers] == pytest.approx(list(batch.arm_scale[row]))
        assert found.zero_point_shift == pytest.approx(batch.zero_point_shift[row])
    assert "goods-s-deephst_99999999" not in truth
    with pytest.raises(KeyError, match=r"is not in .*truth; it holds 70 ids such as"):
        truth.get("goods-s-deephst_99999999")


def test_truth_reader_keeps_few_chunks(archive):
    truth = TruthReader(archive)
    for name in truth:
        truth.get(name)
    assert truth._chunk.cache_info().currsize <= 2


def test_no_truth_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished simulated archive"):
        TruthReader(tmp_path)


def test_a_killed_run_goes_on_where_it_was(archive, tmp_path, batch):
    first = archive / "truth" / "truth_00000.npz"
    second = archive / "truth" / "truth_00001.npz"
    kept, before = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    (archive / CATALOGUE).unlink()
    write_archive(archive, N, SEED, workers=1, progress=False)
    assert first.stat().st_mtime_ns == kept
    with np.load(second) as arrays, np.load(_saved(tmp_path, before)) as old:
        np.testing.assert_allclose(arrays["redshift"], old["redshift"], rtol=1e-12)
    assert (archive / CATALOGUE).is_file()


def test_deleted_spectra_and_damaged_truth_are_written_again(tmp_path):
    write_archive(tmp_path, 3, 3, workers=1, progress=False)
    spectra = sorted(tmp_path.glob("*/spectra/*/*/*.fits"))
    before = {path: path.read_bytes() for path in spectra}
    truth, rows = tmp_path / "truth" / "truth_00000.npz", tmp_path / "truth" / "rows_00000.npz"
    kept = truth.stat().st_mtime_ns
    write_archive(tmp_path, 3, 3, workers=1, progress=False)
    assert truth.stat().st_mtime_ns == kept  # complete: left alone
    early = {name: array for name, array in np.load(truth).items() if name != "error_scale"}
    prism = next(path for path in spectra if "clear-prism" in path.name)
    grating = next(path for path in spectra if "g395m" in path.name)
    for damage in (
        prism.unlink,
        grating.unlink,
        rows.unlink,
        lambda: truth.write_bytes(truth.read_bytes()[:200]),
        lambda: np.savez(truth, **early),  # of a version that did not know of an array
    ):
        damage()
        write_archive(tmp_path, 3, 3, workers=1, progress=False)
        assert {path: path.read_bytes() for path in spectra} == before
        assert len([TruthReader(tmp_path).get(name) for name in TruthReader(tmp_path)]) == 3


def test_damaged_truth_names_the_file_and_the_cure(tmp_path):
    write_archive(tmp_path, 2, 3, workers=1, progress=False)
    truth, index = tmp_path / "truth" / "truth_00000.npz", tmp_path / "truth" / "index.json"
    whole = truth.read_bytes()
    reader = TruthReader(tmp_path)
    name = next(iter(reader))
    for content in (
        whole[:200],
        b"",
        b"no array" * 20,
        whole[: len(whole) // 2] + b"x" + whole[len(whole) // 2 + 1 :],
    ):
        truth.write_bytes(content)
        with pytest.raises(
            TruthError, match=r"truth_00000\.npz is missing or damaged .*kspecsr data simulate"
        ):
            reader.get(name)
    truth.unlink()
    with pytest.raises(TruthError, match=r"truth_00000\.npz is missing or damaged"):
        reader.get(name)
    truth.write_bytes(whole)
    index.write_text(index.read_text().replace(name, "goods-n_1"))
    with pytest.raises(TruthError, match=r"differs from index\.json"):
        TruthReader(tmp_path).get("goods-n_1")
    for text in ("{", "[]", "{}"):
        index.write_text(text)
        with pytest.raises(TruthError, match=r"index\.json is missing or damaged"):
            TruthReader(tmp_path)


def test_a_damaged_description_is_a_clear_error(tmp_path):
    for text in ("{", "[]", '{"n": "two"}'):
        (tmp_path / "simulation.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"simulation\.json is damaged .* restore the file, or remove the folder"
        ):
            write_archive(tmp_path, 2, 3, progress=False)


def test_an_impossible_seed_leaves_no_trace(tmp_path):
    with pytest.raises(ValueError, match="seed: expected"):
        write_archive(tmp_path / "new", 2, -1, progress=False)
    assert not (tmp_path / "new").exists()


def _saved(folder, content):
    path = folder / "saved.npz"
    path.write_bytes(content)
    return path


def test_another_simulation_is_not_mixed_in(archive, tmp_path):
    with pytest.raises(ValueError, match="holds another simulation \\(seed differ"):
        write_archive(archive, N, SEED + 1, progress=False)
    with pytest.raises(ValueError, match="holds another simulation \\(config differ"):
        write_archive(archive, N, SEED, SimulationConfig("wide"), progress=False)
    with pytest.raises(ValueError, match="holds 70 observations, more than n=3"):
        write_archive(archive, 3, SEED, progress=False)
    (tmp_path / "something").touch()
    with pytest.raises(ValueError, match="is not empty and holds no simulation"):
        write_archive(tmp_path, 3, SEED, progress=False)
    with pytest.raises(ValueError, match="expected n >= 1 and workers >= 1, got n=0"):
        write_archive(tmp_path / "new", 0, SEED, progress=False)


def test_description_says_what_was_simulated(archive):
    description = json.loads((archive / "simulation.json").read_text())
    assert description["n"] == N
    assert description["seed"] == SEED
    assert SimulationConfig.from_json(json.dumps(description["config"])) == SimulationConfig()
    assert "numpy" in description["versions"]


def test_noise_free_archive_holds_the_truth(tmp_path):
    config = SimulationConfig(nuisances=Nuisances(noise_scale=0.0))
    write_archive(tmp_path, 2, 3, config, workers=1, progress=False)
    truth = TruthReader(tmp_path)
    for name in truth:
        path = next(tmp_path.glob(f"*/spectra/clear-prism/*/*{int(name.split('_')[1]):08d}_clear*"))
        with fits.open(path) as hdus:
            data = hdus["EXTRACT3PIX1D"].data
            good = np.isfinite(data["FLUX"])
            np.testing.assert_allclose(
                data["FLUX"][good], truth.get(name).noise_free_prism[good], rtol=1e-5, atol=1e-26
            )
            assert np.nanmedian(data["FLUX_ERR"]) > 1e-22


def test_an_archive_keeps_its_list_of_lines(tmp_path):
    config = SimulationConfig(lines="second")
    write_archive(tmp_path, 2, 3, config, workers=1, progress=False)
    truth, batch = TruthReader(tmp_path), simulate_batch(np.arange(2), 3, config)
    for row, name in enumerate(batch.unique_id):
        found = truth.get(name)
        assert len(found.line_names) == 93 and found.line_names == batch.lines.names
        np.testing.assert_array_equal(found.line_flux, batch.line_flux[row])
    with pytest.raises(ValueError, match="holds another simulation \\(config differ"):
        write_archive(tmp_path, 2, 3, workers=1, progress=False)


def test_line_fluxes_are_measured_without_bias():
    arm = load_instrument("nirspec-g395m")
    lines, z = {"Halpha": 0.6564629, "[NII]_6585": 0.658527, "[NII]_6550": 0.6549858}, 5.0
    flux = {"Halpha": 3e-18, "[NII]_6585": 4e-19, "[NII]_6550": 4e-19 / 2.942}
    clean = sum(
        render_lines(arm, [x * (1 + z)], [flux[name]], np.array([60.0]))[0] for name, x in lines.items()
    )
    error = np.full(arm.wavelength.size, 2e-21)
    rng = np.random.default_rng(0)
    names = list(CATALOGUE_LINES)
    pulls, ratios = [], []
    for _ in range(40):
        noisy = clean + 1e-21 + error * rng.standard_normal(error.size)
        value, sigma = measure_lines({"nirspec-g395m": (noisy, error, np.zeros(error.size, bool))}, z)
        at = names.index("HBaA_6563")
        pulls.append((value[at] - flux["Halpha"]) / sigma[at])
        ratios.append(value[names.index("N2_6584")] / flux["[NII]_6585"])
    assert abs(np.mean(pulls)) < 0.5
    assert 0.7 < np.std(pulls) < 1.3
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)
    assert np.isnan(value[names.index("C3_1907")])  # not covered


def test_lines_in_a_gap_are_not_measured():
    arm = load_instrument("nirspec-g395m")
    mask = np.abs(arm.wavelength - 0.6564629 * 6) < 0.02
    error = np.where(mask, np.nan, 1e-21)
    value, sigma = measure_lines({"nirspec-g395m": (np.where(mask, np.nan, 1e-21), error, mask)}, 5.0)
    at = list(CATALOGUE_LINES).index("HBaA_6563")
    assert np.isnan(value[at])
    assert np.isnan(sigma[at])


def test_positive_estimate_behaves_as_the_catalogue_does():
    flux, error = positive_estimate(np.array([-1.0, 0.0, 1.0, 20.0]), np.ones(4))
    assert (flux > 0).all()
    assert np.all((flux / error)[:3] > 1.0)
    assert np.all((flux / error)[:3] < 1.8)  # JADES: non-detections at 1.3-1.6
    assert flux[3] == pytest.approx(20.0)
    assert error[3] == pytest.approx(1.0)


def test_prism_wavelengths_are_the_released_ones(batch):
    assert batch.prism_wavelength.size == 706
    np.testing.assert_array_equal(batch.prism_wavelength, load_instrument(PRISM).wavelength)
    assert replace(SimulationConfig(), population="wide").population.name == "wide"
