"""Registration happens on import, so each case runs in an interpreter of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.readers.recognise import REGISTERED
from layouts import LAYOUTS, example

ROOT = Path(__file__).resolve().parents[1]


def run(script, *arguments):
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:data_pipeline", "-c", script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_alone_is_quick_and_loads_nothing_heavy():
    script = """
import sys, time
start = time.process_time()
import data_pipeline
print(time.process_time() - start, *({"specutils", "astropy", "numpy"} & set(sys.modules)))
"""
    seconds, *heavy = run(script).split()
    assert heavy == []
    assert float(seconds) < 0.3


@pytest.mark.parametrize(
    "imports",
    [
        "import kspecsr, specutils",
        "import specutils, data_pipeline",
        "import data_pipeline.readers.__main__, specutils",
    ],
)
def test_every_layout_reads_through_specutils_in_either_import_order(tmp_path, imports):
    paths = []
    for layout in LAYOUTS.values():
        paths.append(tmp_path / layout.file_name)
        layout.emit(paths[-1], *example())
    script = f"""
import sys
{imports}
from data_pipeline.readers import read_spectrum
import numpy as np
for path in sys.argv[1:]:
    spectrum, ours = specutils.Spectrum.read(path), read_spectrum(path)
    assert str(spectrum.flux.unit) == "erg / (Angstrom s cm2)", path
    np.testing.assert_array_equal(spectrum.flux.value, ours.flux)
    np.testing.assert_array_equal(spectrum.uncertainty.array, ours.error)
    np.testing.assert_array_equal(spectrum.mask, ours.mask)
    assert len(specutils.SpectrumList.read(path)) == 1
    print(spectrum.meta["format"])
"""
    formats = run(script, *paths).split()
    assert formats == [layout.format for layout in LAYOUTS.values()]
    assert set(formats) <= {known.name for known in REGISTERED}


def test_our_loader_wins_over_the_pipeline_loader_and_takes_options(tmp_path):
    layout = LAYOUTS["jades-dr3"]
    path = tmp_path / layout.file_name
    layout.emit(path, *example())
    four = LAYOUTS["jades-dr4"]
    four.emit(tmp_path / four.file_name, *example())
    script = """
import sys, data_pipeline, specutils
from astropy.io import registry
formats = registry.identify_format("read", specutils.Spectrum, sys.argv[1], open(sys.argv[1], "rb"), [], {})
assert {"JWST x1d", "kspecsr jades-dr3"} <= set(formats), formats
assert specutils.Spectrum.read(sys.argv[1]).uncertainty is not None
five = specutils.Spectrum.read(sys.argv[2], extraction="5pix")
named = specutils.Spectrum.read(sys.argv[2], format="kspecsr jades-dr4", extraction="5pix")
assert five.meta["extraction"] == named.meta["extraction"] == "5pix"
"""
    run(script, path, tmp_path / four.file_name)


def test_files_of_others_are_left_to_specutils(tmp_path):
    script = """
import sys, data_pipeline, specutils
import astropy.units as u, numpy as np
spectrum = specutils.Spectrum(flux=np.ones(5) * u.Jy, spectral_axis=np.arange(1, 6) * u.um)
spectrum.write(sys.argv[1], format="tabular-fits")
read = specutils.Spectrum.read(sys.argv[1], format="tabular-fits")
assert "kspecsr" not in read.meta and read.flux.unit == u.Jy
from data_pipeline.readers import recognise
assert not any(
    recognise._identifier(known.name)("read", sys.argv[1]) for known in recognise.REGISTERED
)
"""
    run(script, tmp_path / "theirs.fits")
