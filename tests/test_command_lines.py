import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from import_order import command_lines, project_modules

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/tuning.md", "docs/surveys.md"]
COMMANDS = sorted(name.removesuffix(".__main__") for name in command_lines(project_modules(ROOT)))


def run_help(name):
    return subprocess.run(
        [sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )


shown_help = cache(run_help)


def time_limit():
    """One second of an idle machine; a multiple where other tests or other people share its cores."""
    load = os.getloadavg()[0] / os.cpu_count()
    if load < 0.5 and "PYTEST_XDIST_WORKER" not in os.environ:
        return 1.0
    return max(2.0, 1.5 * load)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_comes_within_a_second_and_shows_an_example(name):
    times = []
    while len(times) < 3:
        start = time.perf_counter()
        run = run_help(name)
        times.append(time.perf_counter() - start)
        if times[-1] < time_limit():
            break
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    # once in the usage line, and again in an example that can be copied
    assert run.stdout.count(f"python -m {name}") >= 2
    assert "example" in run.stdout.lower()
    assert min(times) < time_limit(), (
        f"{name} --help took {times} s: which import is heavy? (python -X importtime)"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name):
    script = f"import sys, runpy; sys.argv = ['x', '--help']; runpy.run_module('{name}', run_name='__main__')"
    code = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {script}"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stderr.split())
    assert "argparse" in loaded
    assert loaded & {"tensorflow", "keras", "specutils", "matplotlib.pyplot", "astroquery"} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_an_error(name):
    run = subprocess.run(
        [sys.executable, "-m", name, "--no-such-option"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "usage: python -m" in run.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_the_documents_exists_with_its_options(document):
    text = (ROOT / document).read_text()
    commands = re.findall(r"python -m ((?:data_pipeline|kspecsr|tuning)[\w.]*)([^`#\n]*)", text)
    for module, arguments in commands:
        shown = shown_help(module)
        assert shown.returncode == 0, f"{document} shows python -m {module}, which does not run"
        unknown = [option for option in re.findall(r"--[\w-]+", arguments) if option not in shown.stdout]
        assert unknown == [], f"{document}: python -m {module} has no {unknown}"
