"""Lists a JADES release at MAST, the archive of the Space Telescope Science Institute."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
import requests

from data_pipeline.archives.http_client import TransferError
from data_pipeline.archives.release import Release, RemoteFile, Selection

DOWNLOAD_URL = "https://mast.stsci.edu/api/v0.1/Download/file?uri="
# observations per product query: all of them in one make a request that is too long
_BATCH = 500


def list_mast(release_name: str, release: Release, selection: Selection) -> list[RemoteFile]:
    """The wanted catalogues and spectra of a release, from MAST's product lists, with their sizes.

    Args:
        release_name: e.g. ``dr3``.
        release: its layout.
        selection: what is wanted.

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
                yield str(uri), None if np.ma.is_masked(size) or int(size) <= 0 else int(size)
    except RemoteServiceError as error:
        raise TransferError(f"MAST refuses the query: {error}") from error
