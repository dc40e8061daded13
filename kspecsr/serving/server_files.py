"""What lies beside the versions of an exported model: settings of the server and how to call it."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import numpy as np

from data_pipeline.lines import load_lines
from data_pipeline.writers.atomic import replacing
from kspecsr.prism_input import prism_wavelength
from kspecsr.result import ModelIdentity
from kspecsr.serving.signatures import SIGNATURES
from kspecsr.serving.status import STATUS_BITS, STATUS_MEANINGS

DESCRIPTION_FILE = "description.json"
MODELS_CONFIG = """model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""
# Several requests become one batch: 64 spectra at once cost a third to a half of 64 times one. Spectra of
# several lengths (from_wavelength) are filled up by the server; the graph knows what was filled.
BATCHING_CONFIG = """max_batch_size {{ value: 64 }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: {threads} }}
pad_variable_length_inputs: true
"""


def description(identity: ModelIdentity, bins: np.ndarray) -> dict:
    """What a caller has to know and signatures do not say: grids, lines, status bits; JSON values.

    Args:
        identity: of the exported model.
        bins: (Z,) ln(1 + z) of P(z).
    """
    grid, lines = identity.grid, load_lines()
    return {
        "name": identity.name,
        "sha256": identity.sha256,
        "software": dict(identity.software),
        "output_wavelength_um": {
            "formula": "start * exp(i / sampling), i = 0 ... size - 1",
            "start": grid.start,
            "sampling": grid.sampling,
            "size": grid.size,
        },
        "redshift_bins": {
            "formula": "z = exp(i * step) - 1, i = 0 ... count - 1",
            "step": float(bins[1] - bins[0]),
            "count": int(bins.size),
        },
        "prism_wavelength_um": [float(one) for one in prism_wavelength()],
        "lines": [
            {"name": name, "rest_wavelength_angstrom": float(wavelength * 1e4)}
            for name, wavelength in zip(lines.names, lines.wavelength, strict=True)
        ],
        "status_bits": {str(bit): f"{name}: {STATUS_MEANINGS[name]}" for name, bit in STATUS_BITS.items()},
    }


def write_description(folder: Path, identity: ModelIdentity, bins: np.ndarray) -> Path:
    """Writes ``assets.extra/description.json`` of an exported version."""
    path = folder / "assets.extra" / DESCRIPTION_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(description(identity, bins), indent=1) + "\n", encoding="utf-8")
    return path


def write_server_files(folder: Path, identity: ModelIdentity, bins: np.ndarray, threads: int = 2) -> None:
    """Writes ``models.config``, ``batching.config`` and ``README.md`` beside the versions.

    Args:
        folder: that holds the versions; its name is the model's.
        identity: of the newest version.
        bins: (Z,) ln(1 + z) of P(z).
        threads: batches that the server works on at the same time.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("kspecsr.serving", ""), undefined=jinja2.StrictUndefined, autoescape=False
    )
    readme = templates.get_template("export_readme.md.jinja").render(
        name=folder.name,
        identity=identity,
        signatures=SIGNATURES,
        sizes={"P": prism_wavelength().size, "N": identity.grid.size, "K": len(load_lines()), "Z": bins.size},
        step=float(bins[1] - bins[0]),
        status=[(bit, name, STATUS_MEANINGS[name]) for name, bit in STATUS_BITS.items()],
    )
    texts = {
        "models.config": MODELS_CONFIG.format(name=folder.name),
        "batching.config": BATCHING_CONFIG.format(threads=threads),
        "README.md": readme.rstrip("\n") + "\n",
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
