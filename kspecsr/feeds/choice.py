"""Choice of the training data: records or fresh simulation."""

from dataclasses import dataclass
from pathlib import Path

SIMULATION = "simulation"
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DataChoice:
    """Where training examples come from.

    Attributes:
        directory: record directory; None for fresh simulation.
        reason: one line for the user: the choice, and why it was made.
    """

    directory: Path | None
    reason: str


def choose_data(option: str = SIMULATION) -> DataChoice:
    """Data for the option ``--data``.

    Args:
        option: ``simulation`` or a record directory.

    Raises:
        FileNotFoundError: for a directory without records.
    """
    if option == SIMULATION:
        return DataChoice(None, "data: fresh simulation (--data DIR takes records instead)")
    directory = Path(option)
    if not (directory / _MANIFEST).is_file():
        inside = _record_directories(directory)
        hint = f"; did you mean {' or '.join(map(str, inside))}?" if inside else ""
        raise FileNotFoundError(
            f"--data {option}: no {_MANIFEST} there, so it is no record directory; expected one that "
            f"kspecsr data build wrote, or the word {SIMULATION}{hint}"
        )
    return DataChoice(directory, f"data: records in {directory}")


def _record_directories(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path.parent for path in folder.glob(f"*/{_MANIFEST}"))
