import re
import subprocess
import sys
from pathlib import Path

import pytest

from import_order import ALLOWED, NUMPY_ONLY, command_lines, project_modules, violations

ROOT = Path(__file__).resolve().parents[1]


def write_tree(root, files):
    for package in ALLOWED:
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return root


def test_the_project_keeps_its_import_rules():
    assert violations(ROOT) == []


def test_the_checker_sees_the_whole_project():
    modules = project_modules(ROOT)
    assert {"data_pipeline", "data_pipeline.spectrum", "data_pipeline.download", "kspecsr", "tuning"} <= set(
        modules
    )


ALLOWED_TREES = {
    "downwards": {
        "kspecsr/fit.py": "from data_pipeline.grid import step\n",
        "data_pipeline/grid.py": "step = 1\n",
    },
    "submodule of the own package": {
        "data_pipeline/instrument/grid.py": "from data_pipeline.instrument import tables\n",
        "data_pipeline/instrument/tables.py": "",
    },
    "heavy library inside a function": {"data_pipeline/load.py": "def f():\n    import tensorflow\n"},
    "name that only starts like a package": {"data_pipeline/a.py": "import kspecsr_plots\n"},
}


@pytest.mark.parametrize("files", ALLOWED_TREES.values(), ids=ALLOWED_TREES.keys())
def test_what_the_rules_allow_passes(tmp_path, files):
    assert violations(write_tree(tmp_path, files)) == []


MAIN = 'def main():\n    return 0\n\nif __name__ == "__main__":\n    main()\n'

PLANTED = {
    "upward": (
        {"data_pipeline/a.py": "import kspecsr\n"},
        r"data_pipeline/a.py:1: data_pipeline must not import kspecsr",
    ),
    "upward in a function": (
        {"data_pipeline/a.py": "def f():\n    from kspecsr import config\n"},
        r"data_pipeline/a.py:2: data_pipeline must not import kspecsr",
    ),
    "upward by name": (
        {"kspecsr/a.py": "import importlib\nx = importlib.import_module('tuning.space')\n"},
        r"kspecsr/a.py:2: kspecsr must not import tuning",
    ),
    "upward in a deep folder": (
        {"data_pipeline/x/y/a.py": "from tuning import run\n"},
        r"data_pipeline/x/y/a.py:1: data_pipeline must not import tuning",
    ),
    "upward under TYPE_CHECKING": (
        {"kspecsr/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tuning\n"},
        r"kspecsr/a.py:3: kspecsr must not import tuning",
    ),
    "own package in a function": (
        {
            "data_pipeline/a.py": "class A:\n    def f(self):\n        from . import b\n",
            "data_pipeline/b.py": "",
        },
        r"data_pipeline/a.py:3: import of data_pipeline.b is not at the top of the file",
    ),
    "own package in a try block": (
        {"data_pipeline/a.py": "try:\n    from data_pipeline import b\nexcept ImportError:\n    b = None\n"},
        r"data_pipeline/a.py:2: import of data_pipeline is not at the top of the file",
    ),
    "command line imported": (
        {"data_pipeline/a.py": "from data_pipeline.build import main\n", "data_pipeline/build.py": MAIN},
        r"data_pipeline/a.py:1: data_pipeline.build is a command line: .*",
    ),
    "command line imported as a name": (
        {"kspecsr/a.py": "from data_pipeline import simulate\n", "data_pipeline/simulate.py": MAIN},
        r"kspecsr/a.py:1: data_pipeline.simulate is a command line: .*",
    ),
    "command line of a package imported": (
        {"kspecsr/a.py": "from data_pipeline.x import __main__\n", "data_pipeline/x/__main__.py": MAIN},
        r"kspecsr/a.py:1: data_pipeline.x.__main__ is a command line: .*",
    ),
    "a module whose name is data": (
        {"kspecsr/a.py": "import importlib\ndef f(name):\n    importlib.import_module(name)\n"},
        r"kspecsr/a.py:3: import of a module whose name is not written out",
    ),
    "cycle of two": (
        {"data_pipeline/a.py": "from data_pipeline import b\n", "data_pipeline/b.py": "from .a import x\n"},
        r"import cycle: data_pipeline.[ab] <- data_pipeline.[ab] <- data_pipeline.[ab]",
    ),
    "cycle over three folders": (
        {
            "data_pipeline/x/a.py": "from data_pipeline.y.b import f\n",
            "data_pipeline/y/b.py": "from ..z import c\n",
            "data_pipeline/z/c.py": "import data_pipeline.x.a\n",
        },
        r"import cycle: (data_pipeline\.[xyz]\.[abc]( <- )?){4}",
    ),
    "cycle through a package": (
        {
            "data_pipeline/x.py": "from data_pipeline.y import f\n",
            "data_pipeline/y/z.py": "from data_pipeline.x import g\n",
            "data_pipeline/y/__init__.py": "from .z import f\n",
        },
        r"import cycle: (data_pipeline\.(x|y|y\.z)( <- )?){4}",
    ),
    "cycle for annotations only": (
        {
            "data_pipeline/a.py": "import typing\nif typing.TYPE_CHECKING:\n    from . import b\n",
            "data_pipeline/b.py": "from data_pipeline import a\n",
        },
        r"import cycle: data_pipeline.[ab] <- data_pipeline.[ab] <- data_pipeline.[ab]",
    ),
    "two packages that need each other, though no two of their modules do": (
        {
            "kspecsr/x/a.py": "from kspecsr.y.b import f\n",
            "kspecsr/x/c.py": "",
            "kspecsr/y/b.py": "",
            "kspecsr/y/d.py": "from kspecsr.x.c import g\n",
        },
        r"import cycle of packages: (kspecsr\.[xy]( <- )?){3}",
    ),
    "packages in a circle by a command's lazy import": (
        {
            "kspecsr/x/a.py": MAIN + "\ndef work():\n    from kspecsr.y import b\n",
            "kspecsr/y/b.py": "from kspecsr.x import c\n",
            "kspecsr/x/c.py": "",
        },
        r"import cycle of packages: (kspecsr\.[xy]( <- )?){3}",
    ),
    "TensorFlow in the simulator": (
        {"data_pipeline/simulation/noise.py": "def f():\n    import tensorflow as tf\n"},
        r"data_pipeline/simulation/noise.py:2: tensorflow must not be needed here .*",
    ),
    "Keras in the instrument": (
        {"data_pipeline/instrument/lsf.py": "from keras import ops\n"},
        r"data_pipeline/instrument/lsf.py:1: keras must not be needed here .*",
    ),
    "TensorFlow in a layer": (
        {"kspecsr/layers/a.py": "def f():\n    import tensorflow as tf\n"},
        r"kspecsr/layers/a.py:2: tensorflow must not be needed here .*",
    ),
    "own package in a function of no command line": (
        {"kspecsr/a.py": "def f():\n    from kspecsr import b\n", "kspecsr/b.py": ""},
        r"kspecsr/a.py:2: import of kspecsr.b is not at the top of the file",
    ),
}


@pytest.mark.parametrize(("files", "message"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_violation_is_found(tmp_path, files, message):
    found = violations(write_tree(tmp_path, files))
    assert any(re.fullmatch(message, line) for line in found), found


@pytest.mark.parametrize("package", NUMPY_ONLY)
def test_numpy_only_modules_do_not_load_tensorflow(package):
    modules = [name for name in project_modules(ROOT) if name == package or name.startswith(f"{package}.")]
    script = f"import sys, {', '.join(modules) or 'data_pipeline'}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert "data_pipeline" in loaded
    assert not loaded & {"tensorflow", "keras", "tensorflow_probability"}


def test_every_command_line_is_found_and_has_a_main():
    modules = project_modules(ROOT)
    commands = command_lines(modules)
    assert {"data_pipeline.download", "data_pipeline.readers.__main__"} <= commands
    assert {name for name in modules if name.endswith(".__main__")} <= commands
    for name in commands:
        text = modules[name].read_text()
        assert "\ndef main(" in text or re.search(r"\nmain = (cli\.CommandTable|from_clone)\(", text), name
