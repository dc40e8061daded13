"""Role of a process in a sweep: alone, chief or worker, by KerasTuner's environment variables."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


class RoleError(ValueError):
    """Environment variables that do not go together; the text says what is expected."""


class ChiefError(OSError):
    """An address that the chief cannot listen on; the text says what to do."""


@dataclass(frozen=True)
class Role:
    """Role of a process.

    Attributes:
        name: tuner id.
        address: ``HOST:PORT`` of the chief; empty if one process does everything.
    """

    name: str = "tuner0"
    address: str = ""

    @property
    def is_chief(self) -> bool:
        """The process hands out trials and runs none."""
        return bool(self.address) and "chief" in self.name  # KerasTuner's own rule

    @property
    def is_worker(self) -> bool:
        """The process runs trials that a chief hands out."""
        return bool(self.address) and not self.is_chief

    def check_address(self) -> None:
        """Refuse an address that this process cannot listen on: KerasTuner lets two chiefs share a port.

        Raises:
            ChiefError: if the address is taken, or belongs to another machine.
        """
        host, port = self.address.rsplit(":", 1)
        try:
            socket.create_server((host, int(port))).close()
        except OSError:
            raise ChiefError(
                f"{self.address}: cannot listen there; is another chief running, or is KERASTUNER_ORACLE_IP "
                "no address of this machine? Choose another KERASTUNER_ORACLE_PORT, the same for chief and "
                "workers"
            ) from None


def role_from(environment: Mapping[str, str] = os.environ) -> Role:
    """Role of this process.

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
