import inspect
import threading
import time

import astroquery.mast
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import assume, given
from hypothesis import strategies as st

from archive_server import serve
from data_pipeline.archives.fetch import LocalStorageError, fetch, fetch_all, local_path
from data_pipeline.archives.fits_integrity import IntegrityError, check_fits
from data_pipeline.archives.http_client import (
    HttpClient,
    InterruptedTransferError,
    Politeness,
    RetryableError,
    TransferError,
)
from data_pipeline.archives.listing import children, list_mast, list_tree
from data_pipeline.archives.release import RELEASES, RemoteFile, Selection

DR3 = RELEASES["dr3"]
IMPATIENT = Politeness(delay=0, retries=1, backoff=0)
PREFIX = "mast:HLSP/jades/dr3/"
SPECTRUM = "{0}/spectra/{1}/{0}-{2}/hlsp_jades_jwst_nirspec_{0}-{2}-{3:08d}_{1}_v1.0_x1d.fits"


def write_fits(path, checksum=True, size=3000):
    data = np.random.default_rng(5).normal(size=size)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data), fits.ImageHDU(data[:10])])
    hdus.writeto(path, checksum=checksum)
    return path


# --- MAST: astroquery's Observations is replaced at the border, with the columns that it returns


class FakeObservations:
    """Answers as astroquery.mast.Observations does: products with dataURI and size, some listed twice."""

    paths = (
        SPECTRUM.format("goods-n", "clear-prism", "mediumhst", 604),
        SPECTRUM.format("goods-n", "f290lp-g395m", "mediumhst", 604),
        SPECTRUM.format("goods-s", "clear-prism", "deephst", 3968),
        SPECTRUM.format("goods-s", "f290lp-g395h", "deephst", 3968),
        SPECTRUM.format("goods-s", "clear-prism", "deephst", 3968).replace("_x1d", "_s2d"),
        "goods-s/catalogs/hlsp_jades_jwst_nirspec_goods-s_prism-line-fluxes_v1.1_catalog.fits",
        "goods-s/catalogs/hlsp_jades_jwst_nircam_goods-s-deep_photometry_v2.0_catalog.fits",
    )

    def __init__(self, count=1200):
        self.count = count
        self.criteria = None
        self.batches = []

    def query_criteria(self, **criteria):
        self.criteria = criteria
        return Table({"obsid": [str(i) for i in range(self.count)]})

    def get_product_list(self, observations):
        self.batches.append(len(observations))
        sizes = MaskedColumn([60_000 + i for i in range(len(self.paths))], mask=[False, True] + [False] * 5)
        uris = [PREFIX + path for path in self.paths]
        return Table({"dataURI": [*uris, "mast:HLSP/jades/dr1/x_x1d.fits"], "size": [*sizes, 1]})


@pytest.fixture
def observations(monkeypatch):
    fake = FakeObservations()
    monkeypatch.setattr(astroquery.mast, "Observations", fake)
    return fake


def test_the_fake_takes_what_astroquery_takes():
    # columns of the observation table as keywords; then the table (or a part of it) that came back
    real = type(astroquery.mast.Observations)
    query = inspect.signature(inspect.unwrap(real.query_criteria_async))
    products = inspect.signature(inspect.unwrap(real.get_product_list_async))
    assert query.bind(None, provenance_name="JADES", instrument_name="NIRSpec").kwargs
    assert products.bind(None, Table()).arguments.keys() == {"self", "observations"}


def test_mast_is_asked_for_jades_nirspec_in_batches(observations):
    list_mast("dr3", DR3, Selection())
    assert observations.criteria == {"provenance_name": "JADES", "instrument_name": "NIRSpec"}
    assert observations.batches == [500, 500, 200]


def test_mast_products_become_uris_local_paths_and_sizes(observations):
    files = {file.path: file for file in list_mast("dr3", DR3, Selection())}
    paths = FakeObservations.paths
    gn_catalogue = "goods-n/catalogs/hlsp_jades_jwst_nirspec_goods-n_prism-line-fluxes_v1.1_catalog.fits"
    assert set(files) == {paths[0], paths[1], paths[2], paths[5], gn_catalogue}
    assert files[paths[0]].url == f"https://mast.stsci.edu/api/v0.1/Download/file?uri={PREFIX}{paths[0]}"
    assert files[paths[0]].size == 60_000
    assert files[paths[1]].size is None  # masked: unknown, not zero
    assert files[paths[5]].url.endswith(f"?uri={PREFIX}{paths[5]}")
    # not among MAST's products here: taken from the tree
    assert files[gn_catalogue].url == f"https://archive.stsci.edu/hlsps/jades/dr3/{gn_catalogue}"
    assert {file.kind for file in files.values()} == {"prism", "g395m", "catalogue"}


def test_mast_selection(observations):
    files = list_mast("dr3", DR3, Selection(fields=("goods-n",), dispersers=("g395m",)))
    assert [file.path for file in files if file.kind != "catalogue"] == [FakeObservations.paths[1]]


def test_mast_files_are_fetched_and_kept_by_their_listed_size(observations, tmp_path):
    archive = tmp_path / "archive"
    wanted = [file for file in list_mast("dr3", DR3, Selection(fields=("goods-s",))) if file.kind == "prism"]
    (path,) = (file.path for file in wanted)
    (archive / path).parent.mkdir(parents=True)
    write_fits(archive / path)
    size = (archive / path).stat().st_size
    with serve(archive) as server:
        right = [RemoteFile(path, server.url + path, size=size)]
        assert len(fetch_all(right, tmp_path / "copy", HttpClient(IMPATIENT)).fetched) == 1
        assert len(fetch_all(right, tmp_path / "copy", HttpClient(IMPATIENT)).kept) == 1
        assert len(server.requests) == 1
        wrong = [RemoteFile(path, server.url + path, size=size + 1)]
        report = fetch_all(wrong, tmp_path / "copy", HttpClient(IMPATIENT))
    (failed,) = report.failed
    assert f"it has {size} bytes, the archive lists {size + 1}" in failed[1]


def test_mast_without_a_wanted_spectrum_points_to_the_tree(observations):
    with pytest.raises(
        TransferError, match=r"None of the 7 products .*DR3.*--base-url https://archive\.stsci"
    ):
        list_mast("dr3", DR3, Selection(tiers=("ultradeep",)))


def test_mast_out_of_reach_points_to_the_tree(observations, monkeypatch):
    def refuse(**criteria):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(observations, "query_criteria", refuse)
    with pytest.raises(TransferError, match=r"MAST does not answer: name resolution failed.*--base-url"):
        list_mast("dr3", DR3, Selection())


def test_the_tree_of_dr3_gives_every_nirspec_catalogue(tmp_path):
    field = tmp_path / "goods-s"
    path = SPECTRUM.format("goods-s", "clear-prism", "deephst", 3968)
    (tmp_path / path).parent.mkdir(parents=True)
    write_fits(tmp_path / path)
    (field / "catalogs").mkdir()
    nirspec = ("prism-line-fluxes_v1.1", "gratings-line-fluxes_v1.1")
    names = [f"hlsp_jades_jwst_nirspec_goods-s_{name}_catalog.fits" for name in nirspec]
    for name in (*names, "hlsp_jades_jwst_nircam_goods-s_photometry_v2.0_catalog.fits", "README.txt"):
        (field / "catalogs" / name).touch()
    selection = Selection(fields=("goods-s",), dispersers=("prism",))
    with serve(tmp_path) as server:
        files = list_tree(DR3, server.url, selection, HttpClient(IMPATIENT))
    assert [file.path for file in files] == [*(f"goods-s/catalogs/{name}" for name in sorted(names)), path]


# --- folder pages


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("a.fits", "a.fits"),
        ("./a.fits", "a.fits"),
        ("/DR4/goods-s/a.fits", "a.fits"),
        ("https://x.org/DR4/goods-s/tier/", "tier/"),
        ("a%2Bb.fits", "a+b.fits"),
        ("?C=M;O=A", None),
        ("a.fits?version=old", None),
        ("../", None),
        ("%2e%2e/", None),
        ("/DR4/", None),
        ("/DR4/goods-n/a.fits", None),
        ("tier/a.fits", None),
        ("https://elsewhere.org/DR4/goods-s/a.fits", None),
        ("mailto:jades@x.org", None),
        ("", None),
    ],
)
def test_links_of_a_folder_page(link, name):
    html = f'<html><body><pre><A HREF="{link}">what it is called</A> 1.2M</pre></body></html>'
    assert children(html, "https://x.org/DR4/goods-s/") == ([] if name is None else [name])


@pytest.mark.parametrize("path", ["../x.fits", "a/../../x.fits", "/etc/x.fits", "a//x.fits", "a\\..\\x.fits"])
def test_a_path_that_leaves_the_local_copy_is_refused(tmp_path, path):
    with pytest.raises(TransferError, match="no plain path below its root"):
        local_path(RemoteFile(path, "http://x.org/"), tmp_path)


# --- integrity


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = write_fits(tmp_path_factory.mktemp("fits") / "whole.fits", size=400)
    with fits.open(path) as hdus:
        boundaries = [hdu.fileinfo()["hdrLoc"] for hdu in hdus]
    return path, boundaries


def test_a_whole_file_passes(tmp_path):
    check_fits(write_fits(tmp_path / "summed.fits"))
    check_fits(write_fits(tmp_path / "plain.fits", checksum=False))


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(whole, tmp_path_factory, position, bit):
    content = whole[0].read_bytes()
    position %= len(content)
    # a flip in the keyword of a checksum takes the sum away instead of breaking it
    assume(content[position - position % 80 :][:8] not in (b"CHECKSUM", b"DATASUM "))
    altered = bytearray(content)
    altered[position] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "altered.fits"
    path.write_bytes(altered)
    with pytest.raises(IntegrityError):
        check_fits(path)


@given(keep=st.integers(0, 10**6))
def test_any_cut_inside_an_hdu_is_found(whole, tmp_path_factory, keep):
    content, boundaries = whole[0].read_bytes(), whole[1]
    keep %= len(content)
    assume(keep not in boundaries[2:])  # whole again: the transfer's own length check finds that
    path = tmp_path_factory.mktemp("cut") / "cut.fits"
    path.write_bytes(content[:keep])
    with pytest.raises(IntegrityError, match=r"cut short|no readable header|not a FITS file"):
        check_fits(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a FITS file"),
        (b"<html><body>Please log in</body></html>", "not a FITS file: it begins with b'<html><body>Please"),
        (f"{'SIMPLE  =                    T':80}".encode() * 36, "ends within the header of HDU 0"),
        (f"{'SIMPLE  =                    T':80}{'END':2800}".encode(), r"HDU 0 .*KeyError\('NAXIS'\)"),
        (f"{'SIMPLE  =                    T':80}{'NAXIS   = x':80}{'END':2720}".encode(), "invalid literal"),
    ],
)
def test_what_is_no_fits_file_is_named(tmp_path, content, message):
    (tmp_path / "x.fits").write_bytes(content)
    with pytest.raises(IntegrityError, match=message):
        check_fits(tmp_path / "x.fits")


# --- manners


def test_requests_are_paced_over_all_threads(tmp_path):
    (tmp_path / "page.html").write_text("hello")
    client = HttpClient(Politeness(delay=0.05))
    with serve(tmp_path) as server:
        start = time.monotonic()
        threads = [threading.Thread(target=client.text, args=(f"{server.url}page.html",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 6
    assert time.monotonic() - start >= 5 * 0.05


def test_a_crawl_delay_in_robots_txt_slows_down(tmp_path):
    path = SPECTRUM.format("goods-s", "clear-prism", "deephst", 3968)
    (tmp_path / path).parent.mkdir(parents=True)
    write_fits(tmp_path / path)
    (tmp_path / "robots.txt").write_text("User-agent: kspecsr\nCrawl-delay: 1\n")
    client = HttpClient(IMPATIENT)
    client.sleep = lambda seconds: None
    with serve(tmp_path) as server:
        list_tree(RELEASES["dr4"], server.url, Selection(("goods-s",), ("prism",)), client)
    assert client.politeness.delay == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("30", 30, 30), ("Fri, 01 Jan 2100 00:00:00 GMT", 120, 120), ("soon", 1, 1.25)],
)
def test_retry_after_in_every_form_up_to_the_longest_wait(tmp_path, header, least, most):
    (tmp_path / "page.html").write_text("hello")
    client = HttpClient(Politeness(delay=0, backoff=1, longest_wait=120))
    waits = []
    client.sleep = waits.append
    with serve(tmp_path) as server:
        server.unavailable_once["page.html"] = header
        assert client.text(f"{server.url}page.html")[0] == "hello"
    assert least <= max(waits) <= most


def test_a_request_after_stop_is_not_sent(tmp_path):
    client = HttpClient(IMPATIENT)
    client.stop.set()
    with serve(tmp_path) as server, pytest.raises(InterruptedTransferError):
        client.text(server.url)
    assert server.requests == []


def test_retrying_gives_the_last_reason():
    def fail():
        raise RetryableError("busy")

    with pytest.raises(TransferError, match=r"busy \(tried 2 times\)"):
        HttpClient(IMPATIENT).retrying(fail)


def test_a_transfer_stopped_in_the_middle_is_continued(tmp_path):
    archive, copy = tmp_path / "archive", tmp_path / "copy"
    archive.mkdir()
    content = write_fits(archive / "big.fits", size=100_000).read_bytes()
    with serve(archive) as server:
        remote = RemoteFile("big.fits", f"{server.url}big.fits")
        client = HttpClient(IMPATIENT)
        with pytest.raises(InterruptedTransferError):
            fetch(remote, copy, client, received=lambda size: client.stop.set())
        begun = (copy / "big.fits.part").stat().st_size
        assert 0 < begun < len(content)
        assert not (copy / "big.fits").exists()
        assert fetch(remote, copy, HttpClient(IMPATIENT))
        assert [request.range for request in server.requests] == [None, f"bytes={begun}-"]
    assert (copy / "big.fits").read_bytes() == content
    assert not (copy / "big.fits.part").exists()


def test_a_transfer_that_breaks_off_between_two_hdus_is_not_taken_for_whole(whole, tmp_path):
    path, boundaries = whole
    with serve(path.parent) as server:
        server.truncate_once[path.name] = boundaries[2]
        assert fetch(RemoteFile(path.name, f"{server.url}{path.name}"), tmp_path, HttpClient(IMPATIENT))
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_files_larger_than_the_disk_are_not_begun(tmp_path):
    huge = [RemoteFile("a.fits", "http://127.0.0.1:9/a.fits", size=10**18)]
    with pytest.raises(LocalStorageError, match=r"GB free, the missing files need 1000000000\.0 GB"):
        fetch_all(huge, tmp_path / "not" / "there", HttpClient(IMPATIENT))
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("jobs", [0, 5])
def test_more_connections_than_polite_are_refused(tmp_path, jobs):
    with pytest.raises(ValueError, match=f"jobs={jobs} must be 1 to 4"):
        fetch_all([], tmp_path, HttpClient(IMPATIENT), jobs=jobs)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"fields": ("cosmos",)}, r"Unknown field \['cosmos'\]; choose from goods-n, goods-s"),
        ({"dispersers": ("g395h",)}, r"Unknown disperser \['g395h'\]; choose from prism, g140m"),
        ({"fields": ()}, "Unknown field"),
    ],
)
def test_a_selection_that_no_release_has_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        Selection(**choice)
