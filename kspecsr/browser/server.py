"""Serves the page on this machine only, with all its scripts from here."""

from __future__ import annotations

import socket
from collections.abc import Callable

import panel as pn

from kspecsr.browser.model_runner import ModelRunner
from kspecsr.browser.page import BrowsePage
from kspecsr.browser.source import BrowseError, ResultSource

ADDRESS = "127.0.0.1"


def serve(
    source: ResultSource, runner: ModelRunner, port: int, show: bool, report: Callable[[str], object]
) -> None:
    """Serves until it is interrupted.

    Args:
        source: of the results.
        runner: of the model.
        port: 0 for a free one.
        show: open a browser.
        report: takes the address.

    Raises:
        BrowseError: for a port that is taken.
    """
    port = _port(port)
    pn.extension("tabulator")
    report(f"http://{ADDRESS}:{port}/ (Ctrl-C ends)")
    pn.serve(
        lambda: BrowsePage(source, runner).layout(),
        port=port,
        address=ADDRESS,
        websocket_origin=[f"{ADDRESS}:{port}", f"localhost:{port}"],
        title=source.title,
        show=show,
        verbose=False,
    )


def _port(wanted: int) -> int:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, wanted))
        except OSError as error:
            raise BrowseError(
                f"--port {wanted}: cannot be used ({error.strerror}); choose another, or 0 for a free one"
            ) from None
        return probe.getsockname()[1]
