"""Sphinx: ``make docs`` builds the pages and runs the tutorials; see `docs/index.md`."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Tutorials call the command `kspecsr` of this environment on this checkout, without TensorFlow's talk.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
os.environ["PYTHONPATH"] = str(ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kspecsr import __version__  # noqa: E402

project = "kspecsr"
author = "kspecsr authors"
copyright = "kspecsr authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
templates_path: list[str] = []

html_theme = "furo"
html_title = f"kspecsr {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# A tutorial that has not changed is not run again; one that fails stops the build, as a warning does (-W).
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # tables in what a cell prints
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# `Attributes:` of a dataclass describe its fields, which autodoc would list a second time.
napoleon_use_ivar = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_class_signature = "mixed"
# single backticks in docstrings name Python objects, as they do in astropy's
default_role = "code"
suppress_warnings = ["config.cache"]
