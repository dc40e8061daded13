"""A model on a server: ``kspecsr.client.connect`` in Python, ``python -m kspecsr.client`` for files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipeline.quiet_start import held_back_stderr
from kspecsr.enhancement.options import FILES_AND_RESULTS, add_options

if TYPE_CHECKING:
    from kspecsr.serving.remote_resolver import RemoteResolver

EXAMPLES = """examples:
  python -m kspecsr.client spectrum.fits --endpoint grpc://localhost:8500/kspecsr
  python -m kspecsr.client archive/ --endpoint http://server:8501/kspecsr --output results --plot
  python -m kspecsr.client @list.txt --endpoint grpcs://server:443/kspecsr/1 --redshift table.csv:z

ENDPOINT is SCHEME://HOST:PORT[/MODEL[/VERSION]]: grpc and grpcs need pip install 'kspecsr[serving]', http and
https do not, but their answers take longer to read. Files are read and results are made and written
here, spectra on the prism's pixels travel. An endpoint that is busy or restarting is asked again.

"""
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
        timeout: seconds that one answer may take.
        attempts: at each request, with growing waits, while the endpoint is busy or out of reach.
        batch_size: spectra in a request at most.
        parallel: requests that are under way at the same time.

    Raises:
        ValueError: for an address of another form.
        EndpointError: if no kspecsr model answers there.
        ModuleNotFoundError: for gRPC without the extra ``serving``.
    """
    # astropy, and TensorFlow for gRPC: not for --help
    from kspecsr.serving.endpoint import Address, Retries
    from kspecsr.serving.remote_resolver import RemoteResolver

    address = Address.parse(endpoint)
    if address.scheme in ("http", "https"):
        from kspecsr.serving.transports import RestTransport as Chosen
    else:
        with held_back_stderr():
            from kspecsr.serving.transports import GrpcTransport as Chosen
    return RemoteResolver(Chosen(address, timeout), Retries(attempts), batch_size, parallel)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m kspecsr.client",
        description="Super-resolve NIRSpec prism spectra on a server; outputs as of kspecsr.enhance.",
        epilog=EXAMPLES + FILES_AND_RESULTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(p)
    p.add_argument("--endpoint", required=True, help="where the model answers; see below")
    p.add_argument(
        "--timeout", type=float, default=TIMEOUT, metavar="S", help="seconds for an answer (%(default)g)"
    )
    p.add_argument("--attempts", type=int, default=ATTEMPTS, help="at each request (default %(default)s)")
    p.add_argument("--batch-size", type=int, default=64, help="spectra in a request (default %(default)s)")
    p.add_argument("--parallel", type=int, default=2, help="requests at a time (default %(default)s)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if a file failed or nothing could be done, 2 wrong options, 130 on Ctrl-C."""
    p = parser()
    args = p.parse_args(argv)
    if args.workers < 0:
        p.error(f"--workers: expected 0 or more, got {args.workers}")
    if not args.timeout > 0 or min(args.attempts, args.batch_size, args.parallel) < 1:
        p.error("--timeout, --attempts, --batch-size, --parallel: expected positive numbers")
    try:
        from kspecsr.enhancement.run import enhance_as_asked

        resolver = connect(args.endpoint, args.timeout, args.attempts, args.batch_size, args.parallel)
        return enhance_as_asked(args, resolver.identity.sha256, lambda: resolver)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("tensorflow_serving", "grpc"):
            raise
        print(
            f"error: {args.endpoint}: needs {error.name}: pip install 'kspecsr[serving]', or use http://",
            file=sys.stderr,
        )
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; results so far are complete, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
