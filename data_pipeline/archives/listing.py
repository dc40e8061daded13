"""List a release: from the browsable folder pages of a web server, or at MAST, the archive of STScI."""

import logging
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import numpy as np
import requests

from data_pipeline.archives.http_client import HttpClient, NotOnServerError, TransferError, user_agent
from data_pipeline.archives.release import DISPERSER_FOLDERS, Release, RemoteFile, Selection

logger = logging.getLogger(__name__)

# written by `sha256sum`, paths below the folder that it lies in
CHECKSUM_LIST = "SHA256SUMS"
DOWNLOAD_URL = "https://mast.stsci.edu/api/v0.1/Download/file?uri="
# observations per product query: all of them in one make a request that is too long
_BATCH = 500


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the targets of the page's links."""
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def children(html: str, page_url: str) -> list[str]:
    """Names of the entries that a folder page links to, folders with a trailing ``/``.

    Links to the parent, to other sites and for sorting the page are left out. ``page_url`` ends with ``/``.
    """
    links = _Links()
    links.feed(html)
    page = urlsplit(page_url)
    names = set()
    for target in links.targets:
        url = urlsplit(urljoin(page_url, target))
        # A query is how Apache sorts its listing: the same page under another address.
        if (url.scheme, url.netloc) != (page.scheme, page.netloc) or url.query:
            continue
        path, base = unquote(url.path), unquote(page.path)
        name = path.removeprefix(base)
        if path.startswith(base) and name.strip("./") and "/" not in name.removesuffix("/"):
            names.add(name)
    return sorted(names)


class Tree:
    """A browsable tree below one URL.

    Raises:
        ValueError: if ``base_url`` is no http(s) URL.
    """

    def __init__(self, base_url: str, client: HttpClient):
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
            raise ValueError(
                f"--base-url {base_url!r} is no web address; it must begin with http:// or https://."
            )
        self.base_url = base_url.rstrip("/") + "/"
        self.client = client
        self._robots: RobotFileParser | None = None

    def url(self, path: str) -> str:
        """Address of a path below the root."""
        return self.base_url + quote(path)

    def folder(self, path: str) -> list[str]:
        """Names in a folder, itself given with a trailing ``/``; none, and a warning, if it is not there.

        Mirrors and simulated archives need not hold every disperser of every field.

        Raises:
            TransferError: if the server fails, or its robots.txt asks not to read the page.
        """
        try:
            # Links are relative to where a redirect led, not to what was asked for.
            html, final_url = self._page(self.url(path))
        except NotOnServerError as error:
            logger.warning("nothing taken from %s: %s", path, error)
            return []
        return children(html, final_url)

    def checksums(self) -> dict[str, str]:
        """Path -> SHA-256 from the root's checksum list; empty if the server offers none."""
        try:
            text, _ = self._page(self.url(CHECKSUM_LIST))
        except NotOnServerError:  # most servers make no such offer
            return {}
        pairs = (line.split(maxsplit=1) for line in text.splitlines())
        return {
            pair[1].strip().lstrip("*").removeprefix("./"): pair[0].lower()
            for pair in pairs
            # Other lines are none of sha256sum: a server that answers everything with a page of HTML offers
            # no checksums.
            if len(pair) == 2 and len(pair[0]) == 64
        }

    def _page(self, url: str) -> tuple[str, str]:
        if self._robots is None:
            self._robots = RobotFileParser()
            try:
                text, _ = self.client.text(urljoin(self.base_url, "/robots.txt"))
                self._robots.parse(text.splitlines())
            except NotOnServerError:
                self._robots.parse([])
            delay = self._robots.crawl_delay(user_agent())
            if delay:
                self.client.slow_down(float(delay))
        if not self._robots.can_fetch(user_agent(), url):
            raise TransferError(f"{url}: robots.txt asks programs not to read this; ask the server's owners")
        return self.client.text(url)


def list_tree(release: Release, base_url: str, selection: Selection, client: HttpClient) -> list[RemoteFile]:
    """The wanted catalogues and spectra of a release, by reading its folder pages.

    ``base_url`` is the release's own tree or a mirror of it.

    Raises:
        TransferError: if the server fails, or no wanted spectrum is found.
        ValueError: if ``base_url`` is no http(s) URL.
    """
    tree = Tree(base_url, client)
    checksums = tree.checksums()
    spectra = [path for path in _spectra(tree, selection) if selection.wants_path(path)]
    if not spectra:
        raise TransferError(
            f"No spectrum of {', '.join(selection.fields)} in {', '.join(selection.dispersers)}"
            f"{' and tier ' + ', '.join(selection.tiers) if selection.tiers else ''} below {tree.base_url}. "
            "Check --field, --disperser and --tier, and that the page opens in a browser."
        )

    def remote(path: str) -> RemoteFile:
        return RemoteFile(path, tree.url(path), sha256=checksums.get(path))

    catalogues = [remote(path) for path in _catalogues(tree, release, selection)]
    return catalogues + selection.first_targets(remote(path) for path in spectra)


def _spectra(tree: Tree, selection: Selection) -> Iterator[str]:
    for field in selection.fields:
        for disperser in selection.dispersers:
            folder = f"{field}/spectra/{DISPERSER_FOLDERS[disperser]}/"
            for tier in tree.folder(folder):
                if tier.endswith("/") and selection.wants_tier(field, tier.rstrip("/")):
                    yield from (f"{folder}{tier}{name}" for name in tree.folder(f"{folder}{tier}"))


def _catalogues(tree: Tree, release: Release, selection: Selection) -> list[str]:
    """Known catalogues, and what other NIRSpec catalogue lies beside one that has a folder of its own."""
    paths = {release.catalogues[field] for field in selection.fields}
    for path in sorted(paths):
        folder, slash, _ = path.rpartition("/")
        if slash:
            beside = tree.folder(f"{folder}/")
            paths |= {f"{folder}/{n}" for n in beside if "_nirspec_" in n and n.endswith("_catalog.fits")}
    return sorted(paths)


def list_mast(release_name: str, release: Release, selection: Selection) -> list[RemoteFile]:
    """The wanted catalogues and spectra of a release, from MAST's product lists, with their sizes.

    Raises:
        TransferError: if MAST does not answer, or lists no wanted spectrum.
    """
    prefix = f"mast:HLSP/jades/{release_name}/"
    cure = f"Read the same files from the browsable tree instead: --base-url {release.base_url}"
    try:
        sizes = {
            uri.removeprefix(prefix): size for uri, size in _products(selection) if uri.startswith(prefix)
        }
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        raise TransferError(f"MAST does not answer: {error}. Try again later. {cure}") from error

    def remote(path: str) -> RemoteFile:
        return RemoteFile(path, DOWNLOAD_URL + quote(prefix + path, safe=":/"), sizes[path])

    spectra = [remote(path) for path in sizes if selection.wants_path(path)]
    if not spectra:
        raise TransferError(
            f"None of the {len(sizes)} products that MAST lists for JADES {release_name.upper()} is a wanted "
            f"spectrum. Check --field, --disperser and --tier. {cure}"
        )
    catalogues = {
        path: remote(path)
        for path in sizes
        if path.split("/")[0] in selection.fields and "_nirspec_" in path and path.endswith("_catalog.fits")
    }
    for field in selection.fields:
        # catalogues are not always filed under an instrument: take the known one from the tree
        if not any(path.startswith(f"{field}/") for path in catalogues):
            path = release.catalogues[field]
            catalogues[path] = RemoteFile(path, release.base_url + path)
    return [catalogues[path] for path in sorted(catalogues)] + selection.first_targets(spectra)


def _products(selection: Selection) -> Iterator[tuple[str, int | None]]:
    """URI and size [bytes] of every JADES NIRSpec product."""
    # imported here because it takes seconds, and `--help` and the tree need none of it
    from astroquery.exceptions import RemoteServiceError
    from astroquery.mast import Observations

    try:
        observations = Observations.query_criteria(provenance_name="JADES", instrument_name="NIRSpec")
        for begin in range(0, len(observations), _BATCH):
            products = Observations.get_product_list(observations[begin : begin + _BATCH])
            for uri, size in zip(products["dataURI"], products["size"], strict=True):
                # MAST masks sizes that it does not know, or says 0; a wrong size would make every download
                # look cut.
                yield str(uri), None if np.ma.is_masked(size) or int(size) <= 0 else int(size)
    except RemoteServiceError as error:
        raise TransferError(f"MAST refuses the query: {error}") from error
