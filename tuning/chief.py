"""The chief of a distributed sweep: KerasTuner's service around the oracle, until nobody needs it."""

from __future__ import annotations

import time
from concurrent import futures

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer, exit_chief

from tuning.oracle import SweepOracle

_PAUSE = 0.5  # seconds between two looks


class ChiefError(OSError):
    """An address that the chief cannot listen on; the text says what to do."""


def serve(oracle: SweepOracle, address: str) -> None:
    """Serves workers until all trials are done and all workers know it.

    KerasTuner's own loop waits for ever for a worker that was killed, and lets a second chief listen on the
    same port.

    Args:
        oracle: that hands out trials.
        address: ``HOST:PORT``.

    Raises:
        ChiefError: if the address is taken or not of this machine.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=(("grpc.so_reuseport", 0),))
    servicer = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ChiefError(
            f"{address}: cannot listen there; is another chief running, or is KERASTUNER_ORACLE_IP no "
            "address of this machine? Choose another KERASTUNER_ORACLE_PORT, the same for chief and workers"
        )
    server.start()
    try:
        while not (servicer.stop_triggered and exit_chief(oracle)):
            time.sleep(_PAUSE)
            oracle.reclaim()
        time.sleep(_PAUSE)  # the last answer is on its way
    finally:
        server.stop(grace=1.0).wait()
