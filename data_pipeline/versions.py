"""Versions of the software that shaped an output, for its provenance."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("kspecsr", "numpy", "scipy", "astropy", "specutils")


def software_versions(*further: str) -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers; those not installed are left out.

    Args:
        *further: names of more packages.
    """
    versions = {"python": platform.python_version()}
    for package in (*_PACKAGES, *further):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
