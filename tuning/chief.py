"""The chief of a distributed sweep: KerasTuner's service around the oracle, until nobody needs it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent import futures
from dataclasses import dataclass

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


VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


class RoleError(ValueError):
    """Environment variables that do not go together; the text says what is expected."""


@dataclass(frozen=True)
class Role:
    """Part of a process.

    Attributes:
        name: tuner id.
        address: ``HOST:PORT`` of the chief; empty where one process does it all.
    """

    name: str = "tuner0"
    address: str = ""

    @property
    def is_chief(self) -> bool:
        """It hands out trials and runs none."""
        return bool(self.address) and "chief" in self.name  # KerasTuner's own rule

    @property
    def is_worker(self) -> bool:
        """It runs trials that a chief hands out."""
        return bool(self.address) and not self.is_chief


def role_from(environment: Mapping[str, str] = os.environ) -> Role:
    """Part of this process.

    Raises:
        RoleError: if some of the three variables are set and others are not, or the port is no port.
    """
    name, address, port = (environment.get(variable, "") for variable in VARIABLES)
    if not address and not port:
        return Role(name or "tuner0")
    missing = [variable for variable in VARIABLES if not environment.get(variable)]
    if missing:
        raise RoleError(
            f"{', '.join(missing)} not set, but {', '.join(v for v in VARIABLES if v not in missing)}; a "
            "distributed sweep needs all three: an id (chief, worker0, worker1, ...), address and port of "
            "the chief"
        )
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise RoleError(f"KERASTUNER_ORACLE_PORT: expected a port, 1 to 65535, got {port!r}")
    return Role(name, f"{address}:{port}")
