"""What demonstrations share: a folder of their own, and commands that are shown before they run."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MARKER = ".kspecsr-demo"
_PATIENCE = 10.0  # s that an interrupted step has to clean up


class DemoError(RuntimeError):
    """A step that failed, or a folder that is not the demo's."""


def prepare(folder: Path, parts: Sequence[str]) -> None:
    """Makes the demo's folder, or empties what an earlier demo put there.

    Args:
        folder: the demo's.
        parts: names in it that the demo writes, and that are removed now.

    Raises:
        DemoError: for a file, or a folder with contents that no demo made.
    """
    if folder.exists() and not folder.is_dir():
        raise DemoError(f"{folder} is a file; give a folder with --output")
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.is_file():
        raise DemoError(
            f"{folder} is not empty and was not made by this demo; choose another --output, "
            "or empty it yourself"
        )
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text("Made by a demo of kspecsr, which overwrites: " + ", ".join(parts) + "\n")
    for part in parts:
        path = folder / part
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)


def run(*arguments: str) -> None:
    """Shows and runs a command of this project.

    Args:
        *arguments: module and options, as after ``python -m``.

    Raises:
        DemoError: where it fails.
        KeyboardInterrupt: once the command has cleaned up.
    """
    print(f"\n$ python -m {shlex.join(arguments)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", *arguments])
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if status:
        raise DemoError(f"python -m {arguments[0]} ended with status {status}; its message stands above")
