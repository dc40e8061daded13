"""Tables shipped with the package, and their reader: ECSV with NumPy alone.

The simulator has to run where neither astropy nor TensorFlow is installed, and ECSV is a commented
header, a line of names and blank-separated rows, which NumPy reads.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

TABLES = Path(__file__).parent


@lru_cache(maxsize=32)
def read_table(path: str | Path) -> dict[str, np.ndarray]:
    """Columns (n,) of an ECSV table as read-only arrays; a relative path is looked up beside this module.

    Raises:
        FileNotFoundError: naming the file and the folder searched.
        ValueError: for a file without rows.
    """
    file = Path(path) if Path(path).is_absolute() else TABLES / path
    if not file.is_file():
        raise FileNotFoundError(
            f"table {file.name!r} not found in {file.parent}; expected an ECSV file there"
        )
    with open(file, encoding="utf-8") as lines:
        header = 0
        for line in lines:
            if not line.startswith("#"):
                break
            header += 1
    rows = np.genfromtxt(
        file, names=True, dtype=None, skip_header=header, encoding="utf-8", deletechars="", comments=None
    )
    if rows.size == 0 or rows.dtype.names is None:
        raise ValueError(f"{file}: no rows; expected an ECSV table with a line of column names")
    columns = {name: np.atleast_1d(rows[name]) for name in rows.dtype.names}
    for column in columns.values():
        column.flags.writeable = False
    return columns
