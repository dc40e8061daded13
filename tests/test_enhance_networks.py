"""``kspecsr enhance`` with real networks, small and untrained, on simulated and on real files."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.jades_names import jades_file_name
from data_pipeline.simulation.archive import write_archive
from data_pipeline.simulation.truth import TruthReader
from kspecsr import super_resolver
from kspecsr.enhance import main
from kspecsr.model_settings import weights_hash
from kspecsr.results.prism_input import degraded_to_prism, prism_chi_square
from kspecsr.super_resolver import SuperResolver
from model_sample import TINY, spectra, tiny_model

REAL = Path(
    os.environ.get("KSPECSR_REAL_SPECTRA", Path(__file__).resolve().parents[2] / "shared" / "real_spectra")
)
REAL_PRISM = sorted(REAL.glob("jades_hlsp/*clear-prism*.fits"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the three stages as training writes it."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three simulated galaxies, prism and gratings, in the layout of JADES DR4."""
    root = tmp_path_factory.mktemp("archive")
    write_archive(root, 3, 16, workers=1, progress=False)
    return root


def check_result(path, model, source):
    """Provenance and physics of one result."""
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        header, spectrum, given = hdus[0].header, hdus["SPEC1D"].data, hdus["INPUT"].data
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SPEC1D", "LINES", "PZ", "INPUT"]
        assert header["INPUT"] == source.name and header["MODELSHA"] == weights_hash(model)
        assert len(spectrum) == TINY.grid.size
        good = ~spectrum["MASK"]
        assert good.mean() > 0.5
        assert np.isfinite(spectrum["FLUX"][good]).all() and (spectrum["FLUX_ERR"][good] > 0).all()
        assert np.sum(hdus["PZ"].data["PDF"] * np.gradient(hdus["PZ"].data["Z"])) == pytest.approx(
            1, abs=0.01
        )
        assert header["CHI2NU"] > 0
        known = ~given["MASK"]
        assert np.isfinite(given["FLUX"][known]).all()
        return header


def test_a_simulated_archive_goes_from_file_to_result(model, archive, tmp_path, capsys):
    table = f"{next(archive.glob('*.fits'))}:z_Spec:Unique_ID"  # its z_Spec is -1 where there is none
    arguments = [str(archive), "--model", str(model), "--output", str(tmp_path), "--plot"]
    assert main([*arguments, "--redshift", table]) == 0
    out = capsys.readouterr().out
    assert "3 results in" in out and "are no prism spectra" in out
    truth = TruthReader(archive)
    for unique_id in truth:
        source = next(archive.rglob(jades_file_name(*unique_id.rsplit("_", 1), "clear", "prism")))
        path = tmp_path / source.name.replace(".fits", "_sr.fits")
        header = check_result(path, model, source)
        if header["ZSOURCE"] == "given":
            assert header["Z"] == pytest.approx(truth.get(unique_id).redshift, abs=0.01)
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    # the same command finds all done, with another redshift it does not
    assert main([*arguments, "--redshift", table, "--quiet"]) == 0
    assert "3 were there already" in capsys.readouterr().out


def test_trunks_in_bfloat16_are_stated_and_change_results_by_little(model, archive, tmp_path):
    file = next(archive.rglob("*clear-prism*.fits"))
    spectra = []
    for precision in ("float32", "mixed_bfloat16"):
        output = tmp_path / precision
        assert (
            main([str(file), "--model", str(model), "--output", str(output), "--precision", precision]) == 0
        )
        with fits.open(next(output.glob("*_sr.fits"))) as hdus:
            stated = hdus[0].header.get("VERSION PRECISION", "float32")
            spectra.append((stated, hdus["SPEC1D"].data["FLUX"], hdus["SPEC1D"].data["FLUX_ERR"]))
    (first, exact, error), (second, quick, _) = spectra
    assert (first, second) == ("float32", "mixed_bfloat16")
    off = np.nanmedian(np.abs(quick - exact) / error)
    assert 0 < off < 0.2


def test_the_first_spectra_are_not_compiled_for_and_give_what_compiled_networks_give(model, monkeypatch):
    monkeypatch.setattr(super_resolver, "_UNCOMPILED_CALLS", 2)
    given, _ = spectra(3, seed=8, unit=1.0)
    resolver = SuperResolver.from_folder(model)
    arrays = [given[f"prism_{name}"] for name in ("flux", "error", "mask")]
    found = []
    for compiled in (set(), set(), {super_resolver.SMALL_BATCH}):
        found.append(resolver.predict_arrays(*arrays))
        assert resolver._sizes == compiled
    for name, values in found[0].items():
        assert found[2][name].dtype == values.dtype and found[2][name].shape == values.shape
        np.testing.assert_array_equal(found[1][name], values)
        np.testing.assert_allclose(found[2][name], values, rtol=1e-3, atol=1e-4 * np.nanmax(np.abs(values)))


def test_the_networks_and_numpy_agree_on_the_consistency_with_the_prism(model, not_compiled):
    """Both count good pixels that see the output alone, and take 2/3 of the quoted variance."""
    given, _ = spectra(3, seed=8, unit=1.0)
    given["prism_mask"][:, 300:320] = True
    out = SuperResolver.from_folder(model).predict_arrays(
        given["prism_flux"], given["prism_error"], given["prism_mask"], 2.0
    )
    for row in range(3):
        again = prism_chi_square(
            given["prism_flux"][row].astype(float),
            given["prism_error"][row].astype(float),
            given["prism_mask"][row],
            degraded_to_prism(out["flux"][row].astype(float), TINY.grid),
        )
        assert out["chi_square"][row] == pytest.approx(again, rel=1e-4)


@pytest.mark.skipif(
    not REAL_PRISM, reason=f"no real spectra in {REAL.name}/; set KSPECSR_REAL_SPECTRA to their folder"
)
def test_a_real_file_goes_from_file_to_result(model, tmp_path, capsys):
    source = REAL_PRISM[-1]
    assert main([str(source), "--model", str(model), "--output", str(tmp_path), "--plot"]) == 0
    assert f"{source.name}: " in capsys.readouterr().out
    path = tmp_path / source.name.replace(".fits", "_sr.fits")
    header = check_result(path, model, source)
    assert header["INDISP"] == "PRISM"
    assert header["INFORMAT"].startswith("jades-dr")
    assert path.with_suffix(".png").stat().st_size > 30_000
