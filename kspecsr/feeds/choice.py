"""Choice of the training data: records or fresh simulation."""

from dataclasses import dataclass
from pathlib import Path

SIMULATION = "simulation"
USUAL_PLACE = Path("data")
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


def choose_data(option: str | None) -> DataChoice:
    """Data for the option ``--data``.

    Args:
        option: ``simulation``, a record directory, or None. None takes the records in ``data/``, or those in
            the only record directory inside it, and otherwise fresh simulation.

    Raises:
        FileNotFoundError: for a directory without records.
    """
    if option == SIMULATION:
        return DataChoice(None, "data: fresh simulation, as asked for")
    if option is not None:
        directory = Path(option)
        if not (directory / _MANIFEST).is_file():
            inside = _record_directories(directory)
            hint = f"; did you mean {' or '.join(map(str, inside))}?" if inside else ""
            raise FileNotFoundError(
                f"--data {option}: no {_MANIFEST} there, so it is no record directory; expected one that "
                f"kspecsr data build wrote, or the word {SIMULATION}{hint}"
            )
        return DataChoice(directory, f"data: records in {directory}, as asked for")
    if (USUAL_PLACE / _MANIFEST).is_file():
        return DataChoice(
            USUAL_PLACE, f"data: records in {USUAL_PLACE}/ (found there; --data says otherwise)"
        )
    found = _record_directories(USUAL_PLACE)
    if len(found) == 1:
        return DataChoice(found[0], f"data: records in {found[0]} (the only ones in {USUAL_PLACE}/)")
    if found:
        names = ", ".join(map(str, found))
        return DataChoice(
            None,
            f"data: fresh simulation (more than one record directory in {USUAL_PLACE}/: {names}; "
            "name one with --data)",
        )
    return DataChoice(None, f"data: fresh simulation (no records in {USUAL_PLACE}/)")


def _record_directories(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path.parent for path in folder.glob(f"*/{_MANIFEST}"))
