"""Which model answers, as the text that it sends along with every spectrum."""

from __future__ import annotations

import json

import numpy as np

from data_pipeline.configuration import to_dict
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.result import ModelIdentity


def identity_text(identity: ModelIdentity, bins: np.ndarray) -> str:
    """One line of JSON.

    Args:
        identity: name, hash, grid and software.
        bins: (Z,) ln(1 + z) of P(z), evenly spaced from 0.
    """
    content = {
        "name": identity.name,
        "sha256": identity.sha256,
        "grid": to_dict(identity.grid),
        "redshift_bins": {"step": float(bins[1] - bins[0]), "count": int(bins.size)},
        "software": dict(identity.software),
    }
    return json.dumps(content)


def parse_identity(text: str | bytes) -> tuple[ModelIdentity, np.ndarray]:
    """The reverse of `identity_text`.

    Raises:
        ValueError: for a text of another kind.
    """
    try:
        content = json.loads(text)
        bins = np.arange(int(content["redshift_bins"]["count"])) * float(content["redshift_bins"]["step"])
        grid = UnifiedGrid(**content["grid"])
        identity = ModelIdentity(content["name"], content["sha256"], grid, content["software"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the endpoint's output 'model' is no description of a kspecsr model ({error!r}): "
            f"{str(text)[:80]}; expected a model that python -m kspecsr.export wrote"
        ) from None
    return identity, bins
