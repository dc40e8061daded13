"""TensorFlow's start-up chatter, kept out of what a command line prints."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back_stderr() -> Iterator[None]:
    """Holds back what TensorFlow writes on starting; shows all of it where something goes wrong.

    TensorFlow 2.21 writes to the file descriptor, before it looks at ``TF_CPP_MIN_LOG_LEVEL``.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
