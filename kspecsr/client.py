"""A model on a server: ``kspecsr.client.connect`` in Python, ``kspecsr serve-client`` for files."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from data_pipeline import command_line as cli
from kspecsr.enhancement.options import FILES_AND_RESULTS, add_options

if TYPE_CHECKING:
    from kspecsr.serving.remote_resolver import RemoteResolver

EXAMPLES = f"""examples:
  kspecsr serve-client spectrum.fits --endpoint grpc://localhost:8500/kspecsr
  kspecsr serve-client archive/ --endpoint http://server:8501/kspecsr --output results --plot
  kspecsr serve-client @list.txt --endpoint grpcs://server:443/kspecsr/1 --redshift table.csv:z

ENDPOINT is SCHEME://HOST:PORT[/MODEL[/VERSION]]. grpc and grpcs need the extra "serving", http and https do
not, but their answers take longer to read. Files are read and results are made and written here; spectra on
the pixels of the prism travel. An endpoint that is busy or restarting is asked again.

{FILES_AND_RESULTS}"""
TIMEOUT, ATTEMPTS = 120.0, 6


def connect(
    endpoint: str,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    batch_size: int = 64,
    parallel: int = 2,
) -> RemoteResolver:
    """A served model, to be called like one of `kspecsr.load`.

    Example:
        >>> sr = kspecsr.client.connect("grpc://localhost:8500/kspecsr")
        >>> result = sr("spectrum.fits")
        >>> result.redshift.value, result.lines, result.spectrum

    Args:
        endpoint: ``SCHEME://HOST:PORT[/MODEL[/VERSION]]``; grpc, grpcs, http or https.
        timeout: longest wait for an answer [s].
        attempts: tries of each request, with growing waits, while the endpoint is busy or out of reach.
        batch_size: largest number of spectra in a request.
        parallel: number of requests at the same time.

    Raises:
        ValueError: for an address of another form.
        EndpointError: if no kspecsr model answers there.
        ModuleNotFoundError: for gRPC without the extra ``serving``.
    """
    # astropy: not for --help
    from kspecsr.serving.remote_resolver import RemoteResolver, Retries
    from kspecsr.serving.transports import Address, GrpcTransport, RestTransport

    address = Address.parse(endpoint)
    transport = RestTransport if address.scheme in ("http", "https") else GrpcTransport
    with cli.suppress_startup_stderr():  # of TensorFlow, which gRPC needs
        chosen = transport(address, timeout)
    return RemoteResolver(chosen, Retries(attempts), batch_size, parallel)


def _options(p: argparse.ArgumentParser) -> None:
    add_options(p)
    cli.add(p, "--endpoint", "where the model answers; see below", required=True)
    cli.add(
        p, "--timeout", "longest wait for an answer [s]", type=cli.above_zero, default=TIMEOUT, metavar="S"
    )
    for name, default, text in (
        ("attempts", ATTEMPTS, "attempts at each request"),
        ("batch-size", 64, "spectra in a request"),
        ("parallel", 2, "requests at the same time"),
    ):
        cli.add(p, f"--{name}", text, type=cli.at_least(1), default=default)


@cli.command("kspecsr serve-client", EXAMPLES, _options, interrupted=cli.RESUMES, extra="serving")
def main(args: argparse.Namespace) -> int:
    """Super-resolve NIRSpec prism spectra on a server; outputs as of kspecsr enhance."""
    from kspecsr.enhancement.run import enhance_as_asked

    resolver = connect(args.endpoint, args.timeout, args.attempts, args.batch_size, args.parallel)
    return enhance_as_asked(args, resolver.identity.sha256, lambda: resolver)


if __name__ == "__main__":
    sys.exit(main())
