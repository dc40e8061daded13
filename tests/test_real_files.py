"""A model judged on real files: integrated fluxes, pairs, single pairs and what is no galaxy."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from benchmarks import real_files
from benchmarks.__main__ import main
from benchmarks.real_files import TOTALS, integrated, judge_others, judge_pairs, judge_single_pairs
from data_pipeline.spectrum import SpectrumError
from enhancement_sample import BINS, IDENTITY, LINE_FLUX, REDSHIFT, StandIn, prism_spectrum
from kspecsr.super_resolver import SuperResolver
from pair_sample import observe

HALPHA = TOTALS["Halpha + [N II]"]


@pytest.fixture(scope="module")
def resolver():
    return SuperResolver(StandIn(), IDENTITY, BINS)


@pytest.fixture(scope="module")
def grating():
    fluxes = {name: flux / 1e-18 for name, flux in LINE_FLUX.items()}
    rng = np.random.default_rng(1)
    return observe("nirspec-g235m", noise=2e-22, rng=rng, redshift=REDSHIFT, lines=fluxes)


def test_integrated_fluxes_are_those_put_in_and_need_the_whole_window(grating):
    flux, error = integrated(grating, REDSHIFT, HALPHA)
    assert abs(flux - LINE_FLUX["Halpha"]) < 4 * error and error < 0.05 * flux
    assert np.isnan(integrated(grating, REDSHIFT + 2.0, HALPHA)).all()  # beyond its end
    gone = np.abs(grating.wavelength / (1 + REDSHIFT) - 0.65646) < 0.003
    assert np.isnan(integrated(grating.replace(mask=grating.mask | gone), REDSHIFT, HALPHA)).all()


def test_totals_of_pairs_are_over_the_gratings_and_a_bad_file_is_listed(
    resolver, grating, tmp_path, monkeypatch
):
    read = {"p.fits": prism_spectrum(noise=0.3), "g.fits": grating}

    def read_spectrum(path):
        if path.name not in read:
            raise SpectrumError(f"{path}: no such spectrum")
        return read[path.name]

    monkeypatch.setattr(real_files, "read_spectrum", read_spectrum)
    table = tmp_path / "pairs.csv"
    table.write_text(f"prism_file,grating_file,z\np.fits,g.fits,{REDSHIFT}\nlost.fits,g.fits,1.0\n")
    unread = []
    text = "\n".join(judge_pairs(resolver, table, unread))
    assert len(unread) == 1 and "lost.fits: no such spectrum" in unread[0]
    row = next(line.split() for line in text.splitlines() if line.startswith("p") and "Halpha" in line)
    model, direct, prism = map(float, row[-4:-1])
    assert model == pytest.approx(1.0, abs=0.1)  # the stand-in says the true flux, the grating has noise
    assert direct == pytest.approx(1.0, abs=0.15) and prism == pytest.approx(1.0, abs=0.2)
    assert "[O III] over the gratings, n 1" in text and "CHI2NU median" in text


def test_single_pairs_say_which_lines_a_model_has(resolver, tmp_path):
    prism = prism_spectrum(noise=0.3)
    wave = np.linspace(0.62, 5.2, 2500)
    flux, error = (np.interp(wave, prism.wavelength, values) for values in (prism.flux, prism.error))
    columns = {"WAVELENGTH": wave, "PRISM_FLUX": flux, "PRISM_FLUX_ERR": error}
    columns |= {"GRATING_FLUX": flux, "GRATING_FLUX_ERR": error}
    hdu = fits.table_to_hdu(Table(columns))
    hdu.name = "PAIR"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "pair_gs_187956.fits")
    text = list(judge_single_pairs(resolver, tmp_path))
    assert text[0].startswith("pair_gs_187956.fits, inferred: z 3.2350 (known 3.7020)")
    assert all(f" {name}" in text[0] for name in LINE_FLUX)
    assert any(line.startswith("pair_gs_187956.fits, redshift told: z 3.7020") for line in text)


def test_spectra_that_are_no_galaxy_are_listed_and_what_is_absent_is_passed_over(
    resolver, tmp_path, capsys, monkeypatch
):
    spectrum = prism_spectrum()
    columns = {"wave": spectrum.wavelength, "flux": spectrum.flux, "err": spectrum.error}
    path = tmp_path / "dwarf.csv"
    units = {"wave": "um", "flux": "erg / (s cm2 Angstrom)", "err": "erg / (s cm2 Angstrom)"}
    Table(columns, units=units).write(tmp_path / "dwarf.ecsv")
    unread = []
    text = "\n".join(judge_others(resolver, [str(tmp_path / "dwarf.ecsv")], unread))
    assert not unread and "dwarf.ecsv" in text and "3.235" in text
    monkeypatch.setattr(SuperResolver, "from_folder", lambda folder: resolver)
    assert main(["real-files", "--spectra", str(path / "absent")]) == 0
    printed = capsys.readouterr().out
    assert f"--spectra: skipped, {path / 'absent'} is not there" in printed
    assert "--gratings: skipped, not given" in printed
