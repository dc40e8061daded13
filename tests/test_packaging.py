import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kspecsr
from import_order import ALLOWED, imports_of, project_modules

# modules with another name
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "grpc": "grpcio",
    "tensorflow_serving": "tensorflow-serving-api",
}
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"kspecsr", "data_pipeline", "tuning", "saved_models"}


@pytest.fixture(scope="module")
def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def entries(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


_HOOK = "import sys, setuptools.build_meta as hooks; getattr(hooks, sys.argv[1])(sys.argv[2])"


def build(hook, source, target):
    """Calls a hook of the build backend as `python -m build` does, without an environment of its own."""
    command = [sys.executable, "-c", _HOOK, hook, str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built from the sdist, unpacked names and metadata, and the names in the sdist."""
    folder = tmp_path_factory.mktemp("build")
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "clone" / name, ignore=unwanted)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "clone")
    build("build_sdist", folder / "clone", folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    build("build_wheel", source, folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_of_the_sdist_holds_every_file_and_nothing_else(wheel):
    files = {path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()}
    wanted = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == wanted - {"saved_models/failures.md"}  # for those who publish a model
    assert {f"{name}/py.typed" for name in ("kspecsr", "data_pipeline", "tuning")} <= found


def test_the_metadata_say_what_it_is_and_where_it_comes_from(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {
            name.split("/")[1]: archive.read(name).decode() for name in archive.namelist() if "info/" in name
        }
    found = message_from_string(texts["METADATA"])
    assert (found["Name"], found["Version"]) == ("kspecsr", kspecsr.__version__)
    assert found["Author"] and "Method, https://arxiv.org/abs/2603.18357" in found.get_all("Project-URL")
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload().startswith("# kspecsr")
    assert {"all", "jax", "survey", "browse", "serving", "tuning"} <= set(found.get_all("Provides-Extra"))
    assert "kspecsr = kspecsr.__main__:main" in texts["entry_points.txt"]
    assert set(texts["top_level.txt"].split()) == PACKAGES


def test_every_folder_with_modules_is_a_package():
    # a folder without __init__.py is silently left out of the wheel
    folders = {path.parent for package in ALLOWED for path in (ROOT / package).rglob("*.py")}
    assert len(folders) >= 3
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_version_is_the_same_everywhere(setup_cfg):
    assert setup_cfg["metadata"]["version"] == "attr: kspecsr.__version__"
    assert f"\nversion: {kspecsr.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_constraints_are_exact_public_versions(pinned):
    assert len(pinned) > 20
    odd = [line for line in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+==\d[\w.]*", line)]
    assert odd == []


def test_constraints_pin_every_dependency_within_its_bounds(setup_cfg, pinned):
    versions = {canonicalize_name(name): version for name, version in (line.split("==") for line in pinned)}
    wanted = entries(setup_cfg["options"]["install_requires"])
    wanted += [line for text in setup_cfg["options.extras_require"].values() for line in entries(text)]
    assert len(wanted) > 10
    for requirement in map(Requirement, wanted):
        if requirement.name == "kspecsr":  # an extra of extras
            continue
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_every_library_that_is_imported_is_a_dependency(setup_cfg):
    extras = setup_cfg["options.extras_require"]
    wanted = _names(setup_cfg["options"]["install_requires"])
    served = set().union(*(_names(extras[name]) for name in ("serving", "survey", "browse")))
    imports = [item for module, path in project_modules(ROOT).items() for item in imports_of(module, path)]
    # benchmarks/ is in a clone only: taken when asked for, with a message where it is missing
    assert not [item for item in imports if item.root in ("benchmarks", "examples") and item.at_top]
    known = {*ALLOWED, *sys.stdlib_module_names, "benchmarks"}
    outside = [item for item in imports if item.root not in known]
    own, sweeps = (
        {_DISTRIBUTIONS.get(item.root, canonicalize_name(item.root)) for item in outside if chosen(item)}
        for chosen in (lambda item: not _of_tuning(item), _of_tuning)
    )
    assert {"numpy", "astropy", "requests"} <= own
    assert own - wanted - served == set()
    assert sweeps - wanted == _names(extras["tuning"])


def test_developers_have_all_that_the_extras_need(setup_cfg):
    extras = setup_cfg["options.extras_require"]
    ((everything,), *_) = (entries(extras["all"]), entries(extras["dev"]))
    assert Requirement(everything).extras == set(extras) - {"all", "cuda", "dev", "docs"}
    assert entries(extras["dev"])[0] == "kspecsr[all,docs]"


def _names(text):
    return {canonicalize_name(Requirement(line).name) for line in entries(text)}


def _of_tuning(item):
    return item.importer.split(".")[0] == "tuning"


def test_the_gpu_extra_adds_cuda_to_tensorflow(setup_cfg):
    assert entries(setup_cfg["options.extras_require"]["cuda"]) == ["tensorflow[and-cuda]"]
    assert any("and-cuda" in requirement for requirement in requires("tensorflow"))


def test_ci_runs_make_test_without_a_terminal():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert "make test < /dev/null" in text


def test_the_licence_text_names_the_authors():
    text = (ROOT / "LICENSE").read_text()
    assert "MIT License" in text
    assert "Copyright (c) 2026 kspecsr authors" in text
