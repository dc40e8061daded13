"""The client against a `PredictionService` over loopback: results of local use, retries, timeouts, batches.

The service is TensorFlow Serving itself where it is to be had, and the stand-in of `prediction_service` where
it is not; what needs a service that fails on purpose always uses the stand-in.
"""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import BINS, IDENTITY, prism_spectrum
from kspecsr import client, enhance
from kspecsr.results.flags import flags_of
from kspecsr.results.prism_input import observed_spectrum, prism_input
from kspecsr.serving.remote_resolver import RemoteResolver, Retries
from kspecsr.serving.signatures import SIGNATURES, identity_text, parse_identity
from kspecsr.serving.transports import Address, EndpointError, Transport
from prediction_service import prediction_service
from serving_binary import serving_binary
from serving_sample import serving_sample
from test_serving import assert_same

TRANSPORTS = ("grpc", "http")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return serving_sample(tmp_path_factory)


@pytest.fixture(scope="module")
def stand_in(sample):
    with prediction_service(Path(sample.folder) / "1") as (served, grpc_endpoint, rest_endpoint):
        served.endpoints = {"grpc": grpc_endpoint, "http": rest_endpoint}
        yield served


@pytest.fixture(scope="module")
def endpoints(sample, stand_in):
    """Of TensorFlow Serving, or else of the stand-in."""
    with serving_binary(sample.folder) as real:
        yield stand_in.endpoints if real is None else dict(zip(TRANSPORTS, real, strict=True))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_results_are_those_of_local_use(sample, endpoints, transport):
    sr = client.connect(endpoints[transport], batch_size=8)
    given, expected = sample.given["with_redshift"][:12], sample.results["with_redshift"][:12]
    redshifts = [one.redshift.value if one.redshift.given else None for one in expected]
    assert any(redshifts) and None in redshifts
    for found, wanted in zip(sr.resolve(given, redshifts), expected, strict=True):
        assert_same(found, wanted, wanted.prism_error)
        assert found.model.sha256 == wanted.model.sha256
        assert found.redshift.given == wanted.redshift.given
        np.testing.assert_array_equal(found.mask, wanted.mask)
    assert sr.redshift_bins.size == wanted.redshift.bins.size


def write_files(folder):
    folder.mkdir()
    for number in range(3):
        spectrum = prism_spectrum(number, redshift=2.0 + number, noise=0.5, source_id=str(number))
        write_spectrum(folder / f"gal{number}.fits", spectrum, {})
    return folder


def test_the_command_writes_what_enhance_writes(endpoints, tmp_path, capsys, not_compiled):
    files = write_files(tmp_path / "spectra")
    options = [str(files), "--redshift", "2.5"]
    assert client.main([*options, "--endpoint", endpoints["grpc"], "--output", str(tmp_path / "a")]) == 0
    lines = capsys.readouterr().out
    assert enhance.main([*options, "--output", str(tmp_path / "b")]) == 0
    assert [line.split(" results")[0] for line in lines.splitlines()[-1:]] == ["3"]
    for path in sorted((tmp_path / "b").iterdir()):
        with fits.open(path) as local, fits.open(tmp_path / "a" / path.name) as served:
            same = ("MODELSHA", "INPUTSHA", "ZSOURCE", "Z", "FLAGS", "GRIDLO", "LSF", "EXTRACT")
            assert [served[0].header[key] for key in same] == [local[0].header[key] for key in same]
            assert [hdu.name for hdu in served] == [hdu.name for hdu in local]
            for hdu, column in (("SPEC1D", "FLUX"), ("LINES", "FLUX")):
                mine, other = served[hdu].data, local[hdu].data
                difference = np.abs(mine[column] - other[column]) / other["FLUX_ERR"]
                # no lines where the redshift that was given does not fit
                np.testing.assert_array_equal(np.isnan(mine[column]), np.isnan(other[column]))
                assert np.nanmax(difference, initial=0) < 0.02
    # what is there is kept: the same model, whoever ran it
    assert client.main([*options, "--endpoint", endpoints["http"], "--output", str(tmp_path / "b")]) == 0
    assert "3 were there already" in capsys.readouterr().out


def test_one_file_or_several_are_called_like_a_local_model(endpoints, tmp_path):
    files = sorted(write_files(tmp_path / "spectra").iterdir())
    sr = client.connect(endpoints["http"])
    one, several = sr(files[0]), sr(files[:2], redshift=[None, 3.0])
    assert one.observed.meta.path == str(files[0])
    assert len(one.lines) == len(several[0].lines) > 60
    assert several[1].redshift.value == 3.0 and several[1].redshift.given
    with pytest.raises(ValueError, match="one for each of 2 spectra, got 3"):
        sr(files[:2], redshift=[1.0, 2.0, 3.0])


def test_batches_are_as_large_as_asked(stand_in, sample):
    sr = client.connect(stand_in.endpoints["grpc"], batch_size=3, parallel=2)
    stand_in.sizes.clear()
    assert len(sr.resolve(sample.given["serving_default"][:7])) == 7
    assert sorted(stand_in.sizes) == [1, 3, 3]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_busy_endpoint_is_asked_again(stand_in, transport, monkeypatch):
    waits = []
    monkeypatch.setattr("kspecsr.serving.remote_resolver.time.sleep", waits.append)
    stand_in.failures = 3
    assert client.connect(stand_in.endpoints[transport], attempts=4).identity.name == "default"
    assert pytest.approx(waits, rel=0.26) == [0.5, 1.0, 2.0]
    stand_in.failures = 2
    with pytest.raises(EndpointError, match=r"busy \(after 2 attempts\)"):
        client.connect(stand_in.endpoints[transport], attempts=2)
    stand_in.failures = 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_unknown_model_is_not_asked_for_again(stand_in, transport):
    with pytest.raises(EndpointError, match=r"Servable not found: .*kspecsrx") as caught:
        client.connect(stand_in.endpoints[transport] + "x")
    assert "attempts" not in str(caught.value)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_endpoint_that_never_answers_is_given_up(transport):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"{transport}://127.0.0.1:{silent.getsockname()[1]}/m"
        with pytest.raises(EndpointError, match=rf"{address}: (DEADLINE_EXCEEDED|ReadTimeout).*after 1 att"):
            client.connect(address, timeout=0.3, attempts=1)


def test_no_server_is_one_line_and_status_1(tmp_path, capsys):
    files = write_files(tmp_path / "spectra")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        options = [str(files), "--endpoint", address, "--attempts", "1", "--output", str(tmp_path / "out")]
        assert client.main(options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {address}/kspecsr: ConnectionError")


def test_a_server_that_goes_away_ends_the_run_with_what_is_there(stand_in, tmp_path, capsys, monkeypatch):
    files = write_files(tmp_path / "spectra")
    predict = stand_in.predict

    def going_away(signature, inputs):
        if signature != "classify_redshift":
            stand_in.failures = 99
        return predict(signature, inputs)

    monkeypatch.setattr("kspecsr.enhancement.run.BATCH", 2)
    monkeypatch.setattr(stand_in, "predict", going_away)
    options = ["--endpoint", stand_in.endpoints["http"], "--attempts", "1", "--output", str(tmp_path / "out")]
    assert client.main([str(files), *options]) == 1
    stand_in.failures = 0
    assert "ended early: http://127.0.0.1" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 2


class Answers(Transport):
    """A transport without a network."""

    def __init__(self, *outputs):
        super().__init__(Address.parse("grpc://nowhere:1/m"), 1.0)
        self.outputs = list(outputs)

    def predict(self, signature, inputs):
        return self.outputs.pop(0)


def classified(sha256):
    text = identity_text(type(IDENTITY)("x", sha256, IDENTITY.grid), BINS)
    one = {name: np.zeros(1) for name in ("redshift", "redshift_error", "redshift_confidence", "status")}
    return {**one, "redshift_probability": np.zeros((1, BINS.size)), "model": np.array([text])}


def test_another_model_in_the_middle_is_an_error(sample):
    later = {name: np.zeros(1) for name in SIGNATURES["serving_default"].outputs} | classified("b" * 64)
    sr = RemoteResolver(Answers(classified("a" * 64), later))
    with pytest.raises(EndpointError, match=r"another model answers .bbbbbbbbbbbb. than at the start .aaaa"):
        sr.resolve(sample.given["serving_default"][:1])


def test_a_model_of_another_kind_is_an_error():
    with pytest.raises(EndpointError, match=r"the answer lacks model, redshift, .* for 1 spectra"):
        RemoteResolver(Answers({"probabilities": np.zeros(1)}))
    odd = {**classified("a" * 64), "model": np.array(["cats and dogs"])}
    with pytest.raises(EndpointError, match=r"no description of a kspecsr model .*cats and dogs"):
        RemoteResolver(Answers(odd))


def test_the_identity_survives_its_text():
    identity, bins = parse_identity(identity_text(IDENTITY, BINS))
    assert (identity.name, identity.sha256, identity.grid) == ("stand-in", "ab" * 32, IDENTITY.grid)
    np.testing.assert_allclose(bins, BINS, rtol=1e-15)
    assert "software" in json.loads(identity_text(IDENTITY, BINS))


@pytest.mark.parametrize(
    ("text", "scheme", "host", "model", "version"),
    [
        ("grpc://localhost:8500", "grpc", "localhost:8500", "kspecsr", None),
        ("https://a.b:443/mine/3", "https", "a.b:443", "mine", 3),
    ],
)
def test_addresses(text, scheme, host, model, version):
    assert Address.parse(text) == Address(scheme, host, model, version)


@pytest.mark.parametrize(
    "text", ["localhost:8500", "ftp://a:1/m", "grpc://a/m", "grpc://a:x/m", "grpc://a:1/m/1/2"]
)
def test_an_address_of_another_form_is_an_error(text):
    with pytest.raises(ValueError, match="expected SCHEME://HOST:PORT"):
        Address.parse(text)
    with pytest.raises(ValueError, match="expected a number as VERSION, got 'v2'"):
        Address.parse("grpc://a:1/m/v2")


def test_waits_grow_to_a_limit():
    retries = Retries(attempts=9, first_wait=1.0, longest_wait=10.0)
    assert [retries.wait_before(n) for n in range(1, 6)] == [1.0, 2.0, 4.0, 8.0, 10.0]
    with pytest.raises(ValueError, match="expected one attempt or more"):
        Retries(attempts=0)


def test_status_bits_that_nobody_knows_are_an_error():
    assert flags_of(0) == () and flags_of(5) == ("NO_COVERAGE", "NO_CLEAR_REDSHIFT")
    with pytest.raises(ValueError, match="status 256: expected 0-255"):
        flags_of(256)


def test_rest_needs_no_tensorflow():
    code = (
        "import sys, kspecsr.serving.transports, kspecsr.serving.remote_resolver;"
        "sys.exit(bool({'tensorflow', 'grpc'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_spectrum_on_the_prisms_pixels_is_sent_as_it_is():
    spectrum = prism_spectrum(1)
    given = prism_input(observed_spectrum(spectrum))
    np.testing.assert_array_equal(given.flux, spectrum.flux)
