"""A model on a server, with the interface of `kspecsr.super_resolver.SuperResolver`."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from kspecsr.results.data import ModelIdentity
from kspecsr.results.interpretation import results_of
from kspecsr.results.prism_input import MASKED_ERROR, PrismInput, output_mask, prism_wavelength, stacked
from kspecsr.results.resolver import Resolver, redshifts_of
from kspecsr.results.result import Result
from kspecsr.serving import signatures
from kspecsr.serving.transports import EndpointError, Transport

Answer = TypeVar("Answer")
_JITTER = 0.25  # so that many callers do not come back at the same moment


@dataclass(frozen=True)
class Retries:
    """Number of attempts at a request, and the waits between them.

    Attributes:
        attempts: number of attempts, the first one included.
        first_wait: wait before the second attempt [s]; each further wait is twice as long.
        longest_wait: upper limit of a wait [s].
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 15.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait < 0 or self.longest_wait < 0:
            raise ValueError(f"retries: expected one attempt or more and waits of 0 or more, got {self}")

    def wait_before(self, attempt: int) -> float:
        """Wait [s] before an attempt, without its random part; the second attempt is number 1."""
        return min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait)

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until there is an answer.

        Raises:
            EndpointError: if all attempts failed, or another attempt would fail as well; the last error.
        """
        attempt = 1
        while True:
            try:
                return ask()
            except EndpointError as error:
                if not error.passing:
                    raise
                if attempt >= self.attempts:
                    raise EndpointError(f"{error} (after {attempt} attempts)") from error
            time.sleep(self.wait_before(attempt) * (1.0 + random.uniform(-_JITTER, _JITTER)))
            attempt += 1


BATCH_SIZE, PARALLEL = 64, 2


class RemoteResolver(Resolver):
    """Sends prism spectra to a served model.

    Attributes:
        identity: name, hash and grid of the model that answers.
        redshift_bins: (Z,) ln(1 + z) of P(z).

    Args:
        transport: transport to the endpoint.
        retries: attempts and waits while it does not answer.
        batch_size: largest number of spectra in a request.
        parallel: number of requests at the same time.

    Raises:
        EndpointError: if no kspecsr model answers there.
    """

    def __init__(
        self,
        transport: Transport,
        retries: Retries | None = None,
        batch_size: int = BATCH_SIZE,
        parallel: int = PARALLEL,
    ):
        if batch_size < 1 or parallel < 1:
            raise ValueError(
                f"expected a batch size and parallel requests of 1 or more, got {batch_size} and {parallel}"
            )
        self._transport, self._retries = transport, retries or Retries()
        self._batch_size, self._parallel = batch_size, parallel
        pixels = (1, prism_wavelength().size)
        nothing = {
            "flux": np.zeros(pixels, np.float32),
            "error": np.full(pixels, MASKED_ERROR, np.float32),
            "mask": np.ones(pixels, bool),
        }
        # An empty spectrum: the cheapest question whose answer says which model is there.
        outputs = self._ask(signatures.CLASSIFY_REDSHIFT, nothing)
        self.identity, self.redshift_bins = self._identity(outputs)

    def resolve(
        self,
        inputs: Sequence[PrismInput],
        redshift: float | Sequence[float | None] | None = None,
        keep_flagged: bool = False,
    ) -> list[Result]:
        """See `Resolver.resolve`.

        Raises:
            EndpointError: if the endpoint does not answer, or another model answers than at the start.
            ValueError: for redshifts that do not match.
        """
        redshifts = redshifts_of(redshift, len(inputs))
        starts = range(0, len(inputs), self._batch_size)
        parts = [slice(start, start + self._batch_size) for start in starts]
        with ThreadPoolExecutor(self._parallel) as threads:
            batches = threads.map(
                lambda rows: self._resolve_batch(inputs[rows], redshifts[rows], keep_flagged), parts
            )
            return [result for batch in batches for result in batch]

    def _resolve_batch(
        self, inputs: Sequence[PrismInput], redshifts: np.ndarray, keep_flagged: bool
    ) -> list[Result]:
        arrays = dict(zip(("flux", "error", "mask"), stacked(inputs), strict=True))
        signature = signatures.SERVING_DEFAULT
        if keep_flagged or np.isfinite(redshifts).any():
            # One request for the whole batch: NaN stands for those that are to be inferred.
            signature = signatures.KEEP_FLAGGED if keep_flagged else signatures.WITH_REDSHIFT
            arrays["redshift"] = redshifts
        outputs = self._ask(signature, arrays)
        identity, bins = self._identity(outputs)
        # A server takes up a new version by itself: half of the results must not be of another model.
        if identity.sha256 != self.identity.sha256:
            raise EndpointError(
                f"{self._transport.address}: another model answers ({identity.sha256[:12]}) than at the "
                f"start ({self.identity.sha256[:12]}); run the same command again, or give the version in "
                "the endpoint"
            )
        outputs["mask"] = output_mask(arrays["mask"], identity.grid)  # no output of the signatures
        return results_of(outputs, inputs, redshifts, identity, bins, keep_flagged)

    def _ask(self, signature: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self._retries.call(lambda: self._transport.predict(signature, arrays))
        stated = signatures.SIGNATURES[signature].outputs
        expected = [name for name, array in stated.items() if name in outputs or not array.optional]
        n = next(iter(arrays.values())).shape[0]
        odd = sorted(name for name in expected if len(outputs.get(name, ())) != n)
        if odd:
            raise EndpointError(
                f"{self._transport.address}: the answer lacks {', '.join(odd)} for {n} spectra; expected a "
                "model that kspecsr export wrote, of this version"
            )
        return outputs

    def _identity(self, outputs: Mapping[str, Any]) -> tuple[ModelIdentity, np.ndarray]:
        try:
            return signatures.parse_identity(outputs["model"][0])
        except ValueError as error:
            raise EndpointError(f"{self._transport.address}: {error}") from error
