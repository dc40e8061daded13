"""Progress of what takes long: a bar on a terminal, a line a minute elsewhere."""

import io
import sys
import time
from typing import Any

from tqdm import tqdm

INTERVAL = 60.0  # between lines [s]
_LINE = "{desc}: {n_fmt} of {total_fmt} in {elapsed}, {remaining} left"


class Progress(tqdm):
    """A bar of tqdm where there is a terminal; elsewhere, as in a log, a line of text a minute.

    Takes the arguments of tqdm; what ends within a minute leaves no line in a log.
    """

    def __init__(self, *args: Any, **options: Any):
        file = options.get("file") or sys.stderr
        self._as_lines, self._said = not file.isatty(), time.monotonic()
        if self._as_lines:
            options["bar_format"] = _LINE
        super().__init__(*args, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Show the state, in a log if the last line is a minute old."""
        if not self._as_lines:
            return super().display(msg, pos)
        now = time.monotonic()
        if now - self._said >= INTERVAL:
            self._said = now
            print(self, file=self.fp, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        """Make room for other text, where there is a bar."""
        if not self._as_lines:
            super().clear(nolock)

    def close(self) -> None:
        """End, in a log without a trace."""
        if self._as_lines:
            self.fp = io.StringIO()
        super().close()
