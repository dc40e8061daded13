"""``kspecsr info``: what is installed, and how to cite it."""

import argparse
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from data_pipeline import command_line as cli
from kspecsr import __version__

EXAMPLES = """examples:
  kspecsr info
  kspecsr info --model runs/mine
  kspecsr info --bibtex >> references.bib
"""
_LIBRARIES = (
    "keras",
    "tensorflow",
    "tensorflow-probability",
    "jax",
    "numpy",
    "scipy",
    "astropy",
    "specutils",
)
BIBTEX = f"""@software{{kspecsr,
  author  = {{{{kspecsr authors}}}},
  title   = {{kspecsr: super-resolution of JWST/NIRSpec prism galaxy spectra}},
  version = {{{__version__}}},
  year    = {{2026}},
}}

@article{{Haghjoo2026,
  author  = {{Haghjoo, Aryana and Hemmati, Shoubaneh and Mobasher, Bahram and Chartab, Nima and
             de la Vega, Alexander and Eifler, Tim and Everetts, Emily and Nayyeri, Hooshang and
             Sattari, Zahra}},
  title   = {{Learning to See Sharper: A Physics-Informed Artificial Intelligence Framework for
             Super-Resolving Galaxy Spectra}},
  year    = {{2026}},
  eprint  = {{2603.18357}},
  archivePrefix = {{arXiv}},
}}
"""


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--model")
    cli.add(p, "--bibtex", "print only the BibTeX entries", action="store_true")


@cli.command("kspecsr info", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Show the model and its hash, versions, backend, threads and how to cite."""
    if args.bibtex:
        print(BIBTEX, end="")
        return
    # seconds of TensorFlow: not for --help
    with cli.suppress_startup_stderr():
        import keras
        import tensorflow as tf

        from kspecsr.model_settings import find_model, read_settings, weights_hash

        devices = [
            device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices()
        ]
    folder = find_model(args.model)
    settings = read_settings(folder)
    print(f"kspecsr {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"model {settings.name} ({settings.preset.name}) in {folder}")
    print(f"  SHA-256 of its weights {weights_hash(folder)}")
    print("libraries " + ", ".join(filter(None, map(_version, _LIBRARIES))))
    print(f"backend {keras.backend.backend()}, devices {', '.join(devices)}")
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "one per core")
    print(f"threads {threads} (TF_NUM_INTRAOP_THREADS), cores {os.cpu_count()}")
    print(f"\nIf you use kspecsr, please cite it together with the paper:\n\n{BIBTEX}", end="")


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
