"""The exported SavedModel: what it answers, what it consists of, what lies beside it."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.tools import saved_model_cli
from tensorflow_serving.config import model_server_config_pb2

from benchmarks.serving_speed import read_warm_up
from data_pipeline.instrument.prism_pixels import released_pixels
from data_pipeline.resampling import to_prism_pixels
from kspecsr import export, load
from kspecsr.model_settings import find_model, weights_hash
from kspecsr.results.flags import (
    INVALID_REDSHIFT,
    INVALID_WAVELENGTH,
    LOW_SN,
    NO_COVERAGE,
    STATUS_BITS,
    flags_of,
)
from kspecsr.results.interpretation import results_of
from kspecsr.results.prism_input import output_mask, prism_wavelength
from kspecsr.serving import saved_model
from kspecsr.serving.resampling_graph import resample_to
from kspecsr.serving.saved_model import foreign_operations, graph_operations, next_version
from kspecsr.serving.signatures import SIGNATURES
from serving_sample import FAINT, LITTLE, NOTHING, grids, serving_sample

ROOT = Path(__file__).resolve().parents[1]
SIZES = (1, 7, 64)

# loads a version where nothing of this project can be imported, and answers what lies in a file
CLEAN = """
import sys

class Nothing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("kspecsr", "data_pipeline"):
            raise ImportError(name + " is not to be had here")

sys.meta_path.insert(0, Nothing())
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
given, answers = np.load(sys.argv[2]), {}
for call in sorted({key.rsplit("/", 1)[0] for key in given.files}):
    named = [key for key in given.files if key.startswith(call + "/")]
    inputs = {key.rsplit("/", 1)[1]: tf.constant(given[key]) for key in named}
    for name, values in model.signatures[call.split("/")[0]](**inputs).items():
        answers[call + "/" + name] = values.numpy().astype(str) if name == "model" else values.numpy()
np.savez(sys.argv[3], **answers)
assert not {name.split(".")[0] for name in sys.modules} & {"kspecsr", "data_pipeline"}
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return serving_sample(tmp_path_factory)


@pytest.fixture(scope="module")
def version(sample):
    return Path(sample.folder) / "1"


@pytest.fixture(scope="module")
def answers(sample, version, tmp_path_factory):
    """Outputs of each signature for batches of 1, 7 and 64, of a process without this package."""
    folder = tmp_path_factory.mktemp("clean")
    inputs = {**sample.inputs, "classify_redshift": sample.inputs["serving_default"]}
    arrays = {
        f"{signature}/{size}/{name}": values[:size]
        for signature, named in inputs.items()
        for size in SIZES
        for name, values in named.items()
    }
    np.savez(folder / "inputs.npz", **arrays)
    command = [sys.executable, "-c", CLEAN, version, folder / "inputs.npz", folder / "answers.npz"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = np.load(folder / "answers.npz")
    result = {}
    for key in found.files:
        signature, size, name = key.split("/")
        result.setdefault((signature, int(size)), {})[name] = found[key]
    return result


def assert_same(result, expected, noise):
    """Two results of one spectrum, to a part of its errors, which are largest where lines are drawn."""
    assert result.flags == expected.flags
    error = np.fmax(expected.sr1_error, expected.flux_error)
    for name in ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error"):
        mine, other = getattr(result, name), getattr(expected, name)
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(other), name)
        # batches of other sizes are summed in another order: bright lines differ in the sixth digit, blends
        # that hardly anything tells apart by more
        assert np.nanmax(np.abs(mine - other) / error, initial=0) < 0.02, name
    assert np.nanmax(np.abs(result.prism_model - expected.prism_model) / noise, initial=0) < 0.02
    assert result.chi_square == pytest.approx(expected.chi_square, rel=1e-3, nan_ok=True)
    z, other = result.redshift, expected.redshift
    assert z.value == pytest.approx(other.value, rel=1e-6, nan_ok=True)
    assert z.error == pytest.approx(other.error, rel=1e-3, nan_ok=True)
    assert z.confidence == pytest.approx(other.confidence, abs=1e-4)
    assert np.abs(z.probability - other.probability).max() < 1e-4
    mine, other = result.measurements, expected.measurements
    np.testing.assert_array_equal(mine.in_range, other.in_range)
    for name in ("flux", "flux_error"):
        difference = np.abs(getattr(mine, name) - getattr(other, name)) / other.flux_error
        np.testing.assert_array_equal(np.isnan(difference), np.isnan(other.flux_error), name)
        assert np.nanmax(difference, initial=0) < 0.02, name
    for name in ("wavelength", "fwhm", "equivalent_width", "presence", "prior_weight"):
        np.testing.assert_allclose(
            getattr(mine, name), getattr(other, name), rtol=5e-3, atol=1e-2, err_msg=name
        )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("signature", ["serving_default", "with_redshift", "from_wavelength"])
def test_a_served_spectrum_is_that_of_python(sample, answers, signature, size):
    outputs = answers[signature, size]
    assert set(outputs) == set(SIGNATURES[signature].outputs)  # the model that ships has the optional ones
    for name, values in outputs.items():
        assert values.shape[0] == size
        assert values.dtype == np.float32 or name in ("status", "line_in_range", "prism_mask", "model")
    for row in range(size):
        given, expected = sample.given[signature][row], sample.results[signature][row]
        redshift = expected.redshift.value if expected.redshift.given else np.nan
        one = {name: values[row : row + 1] for name, values in outputs.items()}
        one["mask"] = output_mask(given.mask[None], expected.model.grid)
        (result,) = results_of(one, [given], [redshift], expected.model, expected.redshift.bins)
        assert_same(result, expected, given.error)


@pytest.mark.parametrize("size", SIZES)
def test_the_redshift_alone_is_that_of_the_whole_model(answers, size):
    alone, whole = answers["classify_redshift", size], answers["serving_default", size]
    for name in ("redshift", "redshift_error", "redshift_confidence", "redshift_probability"):
        np.testing.assert_allclose(alone[name], whole[name], rtol=1e-3, atol=1e-5)
    seen = sum(STATUS_BITS[name] for name in (NO_COVERAGE, LOW_SN, "NO_CLEAR_REDSHIFT"))
    np.testing.assert_array_equal(alone["status"], whole["status"] & seen)


def test_resampling_in_the_graph_is_that_of_python(sample, answers):
    outputs = answers["from_wavelength", 64]
    for row, given in enumerate(sample.given["from_wavelength"]):
        np.testing.assert_array_equal(outputs["prism_mask"][row], given.mask)
        difference = np.abs(outputs["prism_flux"][row] - given.flux) / given.error
        # float32 holds the flux itself to no better
        assert difference.max() < 1e-4
        np.testing.assert_allclose(outputs["prism_error"][row], given.error, rtol=1e-6)


def test_odd_spectra_get_a_status_and_leave_the_others_alone(answers):
    outputs = answers["serving_default", 64]
    assert flags_of(outputs["status"][NOTHING]) == (NO_COVERAGE,)
    for name in ("flux", "flux_error", "sr1_flux", "line_flux", "redshift"):
        assert np.isnan(outputs[name][NOTHING]).all(), name
    assert LOW_SN in flags_of(outputs["status"][FAINT])
    assert flags_of(outputs["status"][LITTLE]) == (NO_COVERAGE,)
    np.testing.assert_allclose(outputs["flux"][0], answers["serving_default", 1]["flux"][0], rtol=1e-3)


@pytest.fixture(scope="module")
def model(version):
    return tf.saved_model.load(str(version))


def call(model, signature, inputs):
    tensors = {name: tf.constant(values) for name, values in inputs.items()}
    return {name: value.numpy() for name, value in model.signatures[signature](**tensors).items()}


def test_numbers_without_sense_end_no_batch(sample, answers, model):
    inputs = {name: values[:7].copy() for name, values in sample.inputs["with_redshift"].items()}
    flux, error, z = inputs["flux"], inputs["error"], inputs["redshift"]
    z[:] = np.nan
    flux[1, 300] = 1e5  # one pixel, 25 orders of magnitude above the rest
    flux[2], error[2] = 3e38, 1e-45
    error[3] = 1e-44
    flux[4] = np.where(np.arange(flux.shape[1]) % 2, 1e38, -1e38)
    z[5], z[6] = -1.0, np.inf
    outputs = call(model, "with_redshift", inputs)
    np.testing.assert_array_equal(outputs["redshift"][0], answers["serving_default", 7]["redshift"][0])
    noise = answers["serving_default", 7]["sr1_error"][0]
    difference = np.abs(outputs["flux"][0] - answers["serving_default", 7]["flux"][0]) / noise
    assert np.nanmax(difference) < 1e-2
    for row in (5, 6):
        assert flags_of(outputs["status"][row]) == (NO_COVERAGE, INVALID_REDSHIFT)
        assert np.isnan(outputs["flux"][row]).all()
    for row in range(1, 5):  # numbers, or a status that says that there are none
        finite = np.isfinite(outputs["flux"][row]).any() and np.isfinite(outputs["flux_error"][row]).any()
        assert finite or outputs["status"][row] != 0


def test_wavelengths_without_sense_get_a_status(model, answers, sample):
    inputs = {name: values[:5].copy() for name, values in sample.inputs["from_wavelength"].items()}
    inputs["wavelength"][1, 100:102] = 2.0  # two pixels at one place
    inputs["wavelength"][2] = np.nan
    inputs["wavelength"][3, 3:] = -1.0
    outputs = call(model, "from_wavelength", inputs)
    for row in (1, 2, 3):
        assert flags_of(outputs["status"][row]) == (NO_COVERAGE, INVALID_WAVELENGTH)
        assert np.isnan(outputs["flux"][row]).all()
    for row in (0, 4):
        noise = answers["from_wavelength", 7]["prism_error"][row]
        difference = outputs["prism_flux"][row] - answers["from_wavelength", 7]["prism_flux"][row]
        assert np.abs(difference / noise).max() < 1e-6


def test_what_a_server_fills_up_when_it_batches_is_no_pixel(model, sample):
    whole = {name: values[2:3] for name, values in sample.inputs["from_wavelength"].items()}
    pixels = np.isfinite(whole["wavelength"][0])
    short = {name: values[:, pixels] for name, values in whole.items()}
    for more in (1, 300):  # TensorFlow Serving repeats the first value of each array
        filled = {name: np.pad(v, ((0, 0), (0, more)), constant_values=v[0, 0]) for name, v in short.items()}
        np.testing.assert_array_equal(
            call(model, "from_wavelength", filled)["prism_flux"],
            call(model, "from_wavelength", short)["prism_flux"],
        )


def test_only_stock_operations_in_every_signature_and_function(version):
    operations = graph_operations(version)
    print(*(f"{name} {count}" for name, count in sorted(operations.items())), sep="\n")
    assert {"Conv2D", "MatMul", "Cholesky", "VarHandleOp"} <= set(operations)
    assert foreign_operations(version) == []
    assert "CheckNumerics" not in operations  # it would end a batch
    assert not [name for name in operations if name.startswith(("Xla", "PyFunc", "EagerPyFunc"))]


def test_an_operation_that_is_not_stock_is_found(tmp_path):
    module = tf.Module()
    number = tf.TensorSpec([], tf.float32)
    module.odd = tf.function(
        lambda x: tf.py_function(lambda y: y, [x], tf.float32), [number], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path))
    assert foreign_operations(tmp_path) == ["EagerPyFunc"]


def test_the_signatures_are_named_as_described(model):
    assert set(model.signatures) == set(SIGNATURES)
    for name, signature in SIGNATURES.items():
        function = model.signatures[name]
        inputs = function.structured_input_signature[1]
        assert {key: spec.dtype.name for key, spec in inputs.items()} == {
            key: array.dtype for key, array in signature.inputs.items()
        }
        assert {key: tensor.dtype.name for key, tensor in function.structured_outputs.items()} == {
            key: array.dtype for key, array in signature.outputs.items()
        }
        assert all(spec.shape[0] is None for spec in inputs.values())


def test_saved_model_cli_shows_and_runs_it(version, sample, tmp_path, capfd):
    def cli(*arguments):
        parser = saved_model_cli.create_parser()
        options = parser.parse_args([str(one) for one in arguments])
        options.func()
        return capfd.readouterr().out

    shown = cli("show", "--dir", version, "--tag_set", "serve", "--signature_def", "serving_default")
    for name in ("flux", "error", "mask", "line_flux", "redshift_probability", "status"):
        assert f"['{name}']" in shown
    assert "shape: (-1, 706)" in shown
    for name, values in sample.inputs["serving_default"].items():
        np.save(tmp_path / f"{name}.npy", values[:2])
    given = ";".join(f"{name}={tmp_path}/{name}.npy" for name in ("flux", "error", "mask"))
    cli(
        *("run", "--dir", version, "--tag_set", "serve", "--signature_def", "classify_redshift"),
        *("--inputs", given, "--outdir", tmp_path / "out"),
    )
    redshift = np.load(tmp_path / "out" / "redshift.npy")
    assert redshift[0] == pytest.approx(sample.results["serving_default"][0].redshift.value, rel=1e-5)


def test_the_files_beside_it(sample, version):
    assert sum(path.stat().st_size for path in version.rglob("*") if path.is_file()) < 40e6
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((version.parent / "models.config").read_text(), config)
    (one,) = config.model_config_list.config
    assert (one.name, one.base_path, one.model_platform) == ("kspecsr", "/models/kspecsr", "tensorflow")
    assert "max_batch_size { value: 64 }" in (version.parent / "batching.config").read_text()
    readme = (version.parent / "README.md").read_text()
    assert "docker run" in readme and "curl" in readme and "PredictionServiceStub" in readme
    for signature in SIGNATURES.values():
        assert all(f"| `{name}` |" in readme for name in {**signature.inputs, **signature.outputs})
    content = json.loads((version / "assets.extra" / "description.json").read_text())
    assert content["sha256"] == weights_hash(find_model())
    np.testing.assert_array_equal(content["prism_wavelength_um"], prism_wavelength())
    assert content["output_wavelength_um"]["size"] == sample.results["serving_default"][0].wavelength.size


def test_the_warm_up_requests_send_1_and_64_spectra_through_every_signature(version, model):
    requests = list(read_warm_up(version))
    sizes = [(name, len(inputs["flux"])) for name, inputs in requests]
    assert sorted(sizes) == sorted((name, size) for name in SIGNATURES for size in (1, 64))
    for name, inputs in requests[:4]:
        assert call(model, name, inputs)["status"].shape == (1,)


def test_versions_are_numbered_and_never_replaced(tmp_path, capsys):
    assert next_version(tmp_path) == 1
    (tmp_path / "3").mkdir()
    (tmp_path / "notes").mkdir()
    assert next_version(tmp_path) == 4
    assert export.main(["--output", str(tmp_path), "--version", "3"]) == 1
    assert "is there already; give another --version" in capsys.readouterr().err
    assert export.main(["--output", str(tmp_path), "--model", str(tmp_path / "no")]) == 1
    assert "neither a model folder nor the name" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "notes"]


def test_a_disk_that_is_full_is_an_error_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    served = SimpleNamespace(functions={})
    monkeypatch.setattr(saved_model.ServedModel, "from_folder", lambda _: served)
    text = "{{node SaveV2}} variables: No space left on device [Op:SaveV2]"

    def full(served, folder, **_):
        Path(folder).mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, text)

    monkeypatch.setattr(tf.saved_model, "save", full)
    assert export.main(["--output", str(tmp_path / "kspecsr")]) == 1
    error = capsys.readouterr().err
    assert (
        f"error: {tmp_path / 'kspecsr' / '1'}: cannot be written: variables: No space left on device\n"
        in error
    )
    assert "Op:" not in error
    assert list((tmp_path / "kspecsr").iterdir()) == []


def test_the_export_that_ships_is_of_the_weights_that_ship():
    versions = sorted((ROOT / "saved_models" / "kspecsr").glob("[0-9]*"), key=lambda path: int(path.name))
    assert versions, "expected kspecsr export --output saved_models/kspecsr in the repository"
    content = json.loads((versions[-1] / "assets.extra" / "description.json").read_text())
    assert content["sha256"] == weights_hash(find_model()), "export the weights that ship again"
    assert foreign_operations(versions[-1]) == []
    assert sum(path.stat().st_size for path in versions[-1].rglob("*") if path.is_file()) < 40e6


# resampling by itself, beside the NumPy code that it repeats


def test_resampling_agrees_on_any_pixels():
    target, rng = prism_wavelength(), np.random.default_rng(1)
    releases = {name: released_pixels(name) for name in ("dja-v2", "dja-v4", "stsci")}
    for name, grid in (grids() | releases).items():
        rising = np.sort(grid)
        flux, error = rng.normal(size=grid.size) * 1e-21 + 1e-20, 1e-21 * (1 + rng.random(grid.size))
        mask = rng.random(grid.size) < 0.05
        expected = to_prism_pixels(rising, flux, error, mask)
        given = np.where(mask, np.nan, flux)
        back = slice(None, None, -1) if name == "falling" else slice(None)
        found = resample_to(target, *(tf.constant(values[back][None]) for values in (rising, given, error)))
        values, sigma, bad, valid = (one.numpy()[0] for one in found)
        good = ~expected[2]
        np.testing.assert_array_equal(bad, expected[2], name)
        assert valid
        assert np.max(np.abs(values - expected[0])[good] / expected[1][good]) < 1e-8, name
        np.testing.assert_allclose(sigma[good], expected[1][good], rtol=1e-12)


def test_lines_of_flagged_spectra_are_served_where_asked_for(sample, model):
    inputs = sample.inputs["with_redshift"]
    kept, plain = (call(model, name, inputs) for name in ("keep_flagged", "with_redshift"))
    np.testing.assert_array_equal(kept["status"], plain["status"])
    expected = load().resolve(
        sample.given["with_redshift"], inputs["redshift"].astype(float), keep_flagged=True
    )
    lines = np.isfinite(kept["line_flux"]).any(axis=1)
    assert [one.measurements.reported.any() for one in expected] == lines.tolist()
    flagged = plain["status"] > 0
    assert (lines & flagged).any() and not np.isfinite(plain["line_flux"][flagged]).any()
