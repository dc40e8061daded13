"""All commands: their help, the documents that show them, and the runner that they share."""

import argparse
import configparser
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from data_pipeline import build
from data_pipeline.building.sources import BuildConfig
from data_pipeline.command_line import (
    LOG,
    RESUMES,
    Command,
    CommandTable,
    OptionError,
    above_zero,
    add,
    at_least,
    columns_of,
    interpreting_options,
    list_failures,
    suppress_startup_stderr,
)
from import_order import command_lines, project_modules
from kspecsr import __version__
from kspecsr.__main__ import completion_script
from kspecsr.__main__ import main as kspecsr_command
from kspecsr.info import BIBTEX
from kspecsr.methods.direct_fit import DirectFitConfig

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
HEAVY = {
    "tensorflow",
    "keras",
    "keras_tuner",
    "specutils",
    "matplotlib.pyplot",
    "astroquery",
}


def run(*words, **options):
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": False} | options
    return subprocess.run([sys.executable, *words], **options)


def time_limit():
    """One second of an idle machine; a multiple where other tests or other people share its cores."""
    load = os.getloadavg()[0] / os.cpu_count()
    if load < 0.5 and "PYTEST_XDIST_WORKER" not in os.environ:
        return 1.0
    return max(2.0, 1.5 * load)


@pytest.fixture(scope="module")
def helps():
    """Words of each command -> text of its help; all of them are imported in one fresh process."""
    code = (
        "import json, sys; from kspecsr.__main__ import main as c; "
        "texts = {name: c.command(name).parser().format_help() for name in c.commands}; "
        "print(json.dumps([texts, sorted(sys.modules)]))"
    )
    shown = run("-c", code, env={**os.environ, "COLUMNS": "110"})
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    return json.loads(shown.stdout)


def test_the_table_holds_every_command_line():
    modules = {place for place in kspecsr_command.commands.values() if isinstance(place, str)}
    in_clone = {place for place in modules if place.startswith("benchmarks.")}
    aliases = {"kspecsr.benchmark", "kspecsr.evaluation.identical_networks", "kspecsr.evaluation.robustness"}
    assert modules - in_clone == command_lines(project_modules(ROOT)) - {"kspecsr.__main__"} - aliases
    for words in kspecsr_command.commands:
        assert kspecsr_command.command(words).name == f"kspecsr {words}"


def test_every_help_shows_its_options_and_an_example(helps):
    texts, _ = helps
    for words, text in texts.items():
        assert text.startswith(f"usage: kspecsr {words} "), words
        assert re.search(rf"examples:\n(.*\n)*?  kspecsr {words} ", text), words
        assert "--quiet" in text and "--verbose" in text, words
        assert "python -m" not in text, words
        assert "==SUPPRESS==" not in text and "default: None" not in text, words


def test_no_help_loads_anything_heavy(helps):
    assert set(helps[1]) & (HEAVY) == set()


@pytest.mark.parametrize("words", [[], ["data", "inspect"], ["tune"], ["evaluate"], ["train"]])
def test_help_comes_within_a_second(words):
    times = []
    while len(times) < 3:
        start = time.perf_counter()
        shown = run("-m", "kspecsr", *words, "--help")
        times.append(time.perf_counter() - start)
        if times[-1] < time_limit():
            break
    assert (shown.returncode, shown.stderr) == (0, "")
    assert min(times) < time_limit(), f"{words} took {times} s: which import is heavy? (python -X importtime)"


@pytest.mark.parametrize("module", ["kspecsr.linefit", "data_pipeline.readers", "tuning.report"])
def test_a_module_is_a_command_too_and_names_itself(module):
    shown = run("-m", module, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith(f"usage: python -m {module} ")
    wrong = run("-m", module, "--no-such-option")
    assert wrong.returncode == 2 and f"usage: python -m {module}" in wrong.stderr


def test_the_top_help_groups_all_commands(capsys):
    assert kspecsr_command([]) == kspecsr_command(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {words} +\S", out, re.MULTILINE) for words in kspecsr_command.commands)
    assert kspecsr_command(["data"]) == 0
    out = capsys.readouterr().out
    assert "data build" in out and "enhance" not in out


def test_the_version_comes_from_one_place(capsys):
    assert kspecsr_command(["--version"]) == 0
    assert capsys.readouterr().out == f"kspecsr {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["enhence"], "did you mean enhance"), (["data", "biuld"], "data build"), (["x"], "kspecsr --help")],
)
def test_an_unknown_command_is_an_error_with_a_hint(words, hint, capsys):
    assert kspecsr_command(words) == 2
    assert hint in capsys.readouterr().err


def test_the_console_script_is_the_table():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.entry_points"]["console_scripts"].split() == [
        "kspecsr",
        "=",
        "kspecsr.__main__:main",
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_the_documents_exists_with_its_options(document, helps):
    text = (ROOT / document).read_text().replace("\\\n", " ")
    by_module = {
        str(place).removesuffix(".__main__"): words for words, place in kspecsr_command.commands.items()
    } | {"kspecsr": ""}
    shown = []
    for module, arguments in re.findall(
        r"python -m ((?:data_pipeline|kspecsr|tuning)[\w.]*)([^`#\n]*)", text
    ):
        assert module in by_module, f"{document} shows python -m {module}, which is no command"
        shown.append(f"{by_module[module]} {arguments}".strip())
    shown += re.findall(r"(?:^|`|\$ |&& )kspecsr ([a-z][^`#\n]*)", text, re.MULTILINE)
    names = sorted(kspecsr_command.commands, key=len, reverse=True)
    for command in shown:
        words = next((name for name in names if f"{command} ".startswith(f"{name} ")), None)
        family = any(name.startswith(f"{command.split()[0]} ") for name in names)
        assert words or family, f"{document}: kspecsr {command} is no command"
        options = set(re.findall(r"--[a-z][\w-]*", command)) - {"--help", "--version"}
        unknown = [option for option in options if option not in helps[0].get(words, "")]
        assert unknown == [], f"{document}: kspecsr {words} has no {unknown}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_commands_and_options(shell):
    script = completion_script(shell)
    assert ("serve-client" in script and "--extraction" in script) or "-l extraction" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("enh", {"enhance"}),
        ("data bu", {"build"}),
        ("data build --min", {"--minimum-gratings", "--minimum-line-snr"}),
        ("catalogue --kn", {"--known"}),
        ("--v", {"--version"}),
    ],
)
def test_bash_completes(typed, offered):
    words = ["kspecsr", *typed.split(" ")]
    code = f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _kspecsr; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", completion_script("bash") + code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == offered


def test_info_cites_what_the_citation_file_says():
    citation = (ROOT / "CITATION.cff").read_text()
    for family, given in re.findall(r"family-names: ([^,]+), given-names: ([^}]+)}", citation):
        assert f"{family}, {given}" in re.sub(r"\s+", " ", BIBTEX)
    (title,) = re.findall(r'title: "(Learning.*)"', citation)
    assert title in re.sub(r"\s+", " ", BIBTEX)
    assert re.search(r"arxiv.org/abs/([\d.]+)", citation)[1] in BIBTEX
    assert re.search(r"\nversion: (.*)\n", citation)[1] in BIBTEX


# the runner


def runs(work, options=lambda p: p.add_argument("--n", type=at_least(1)), **more):
    return Command("kspecsr try", "Try.", "examples:\n  kspecsr try", options, work, **more)


def raising(error):
    def work(args):
        raise error

    return work


def test_done_is_0_and_the_status_of_the_work_is_kept():
    assert runs(lambda args: None)([]) == 0
    assert runs(lambda args: 1)([]) == 1


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("file x: cut"), 1, "error: file x: cut\n"),
        (OSError("full"), 1, "error: full\n"),
        (OptionError("--a goes with --b"), 2, "error: --a goes with --b\n"),
        (KeyError("x"), 1, "error: unexpected KeyError: 'x'; --verbose shows where, please report it\n"),
        (
            ModuleNotFoundError(name="jax"),
            1,
            "error: jax is not installed: in a clone of the repository, pip install -c constraints.txt "
            "'.[jax]'\n",
        ),
    ],
)
def test_an_error_is_one_line_and_a_status(error, status, text, capsys):
    assert runs(raising(error))([]) == status
    assert capsys.readouterr().err == text


def test_verbose_shows_where_an_error_arose(capsys):
    assert runs(raising(ValueError("cut")))(["--verbose"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: cut\nTraceback") and "in raising" not in err and "in work" in err


def test_a_missing_extra_says_how_to_install_it_also_in_a_clone(capsys):
    assert runs(raising(ModuleNotFoundError(name="grpc._x")), extra="serving")([]) == 1
    err = capsys.readouterr().err
    # there is no kspecsr on PyPI
    assert (
        "grpc is not installed: in a clone of the repository, pip install -c constraints.txt '.[serving]'"
        in err
    )


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], "rerun the same command to resume"),
        (["--restart"], "rerun the same command without --restart to"),
    ],
)
def test_an_interruption_is_130_and_says_what_is_left(arguments, left, capsys):
    def options(p):
        p.add_argument("--restart", action="store_true")

    assert runs(raising(KeyboardInterrupt()), options, interrupted=RESUMES)(arguments) == 130
    assert capsys.readouterr().err.startswith(f"\ninterrupted; {left}")
    assert runs(raising(KeyboardInterrupt()), interrupted=lambda args: f"{args.n} left")(["--n", "3"]) == 130
    assert capsys.readouterr().err == "\ninterrupted; 3 left\n"


def test_quiet_and_verbose_choose_the_messages(capsys):
    def work(args):
        LOG.debug("details")
        logging.getLogger("kspecsr.somewhere").info("progress")
        logging.getLogger("data_pipeline.x").warning("odd file")
        return list_failures(["a: cut", "b: empty"])

    shown = {}
    for option in ([], ["--quiet"], ["--verbose"]):
        assert runs(work)(option) == 1
        shown["".join(option)] = capsys.readouterr().err.splitlines()
    tail = ["odd file", "", "2 failed:", "  a: cut", "  b: empty"]
    assert shown == {"": ["progress", *tail], "--quiet": tail, "--verbose": ["details", "progress", *tail]}
    logging.getLogger("kspecsr.somewhere").info("after the command nothing is shown")
    assert capsys.readouterr().err == ""
    assert list_failures([]) == 0


@pytest.mark.parametrize(
    ("kind", "good", "bad", "message"),
    [
        (at_least(2), ["2", 2], "1", "expected 2 or more, got 1"),
        (at_least(2), ["7", 7], "2.5", "expected a whole number, got 2.5"),
        (at_least(0.5, float), ["0.5", 0.5], "nan", "expected 0.5 or more, got nan"),
        (above_zero, ["inf", float("inf")], "0", "expected a positive number, got 0"),
        (above_zero, ["0.1", 0.1], "x", "expected a positive number, got x"),
    ],
)
def test_numbers_are_checked_by_the_parser(kind, good, bad, message):
    text, value = good
    assert kind(text) == value
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        kind(bad)


def test_wrong_options_are_told_from_failures():
    with pytest.raises(OptionError, match="bad"), interpreting_options():
        raise ValueError("bad")
    assert columns_of("a, b,,c") == ("a", "b", "c")


def test_defaults_are_stated_once(capsys):
    def options(p):
        p.add_argument("--n", type=int, default=3, help="galaxies")
        p.add_argument("--m", type=int, default=4, help="others (default: four)")
        p.add_argument("--name", default="", help="of it")

    text = runs(lambda args: None, options).parser().format_help()
    assert "galaxies (default: 3)" in text and text.count("default") == 2


def test_defaults_that_help_states_are_those_of_the_configurations():
    arguments = kspecsr_command.command("data build").parser().parse_args(["--archive", "x", "--output", "y"])
    assert build.config_from(arguments) == BuildConfig(archive="x")
    arguments = kspecsr_command.command("linefit").parser().parse_args(["x", "--redshift", "1"])
    names = ("knots", "resolution_scale", "zero_point_shift")
    assert DirectFitConfig(**{name: getattr(arguments, name) for name in names}) == DirectFitConfig()


def test_an_option_of_another_kind_shares_only_its_name():
    parser = argparse.ArgumentParser()
    add(parser, "--seed")
    add(parser, "--output", "a picture", metavar="FILE.png")
    add(parser, "--scale", "factor", type=float)
    args = parser.parse_args(["--output", "x.png"])
    assert (args.seed, args.output, args.scale) == (0, "x.png", None)
    assert re.search(
        r"--seed N +random seed.*--output FILE.png +a picture.*--scale X", parser.format_help(), re.S
    )


def test_a_table_imports_only_what_is_asked_for():
    table = CommandTable("t", "", {"g": {"a": ("no.such.module", ""), "b": (runs(lambda args: None), "")}})
    assert find_spec("no") is None and table(["b"]) == 0
    with pytest.raises(SystemExit, match=r"no\.such\.module is part of a clone of the repository"):
        table(["a"])


def test_startup_messages_come_out_when_something_goes_wrong(capfd):
    with suppress_startup_stderr():
        os.write(2, b"chatter")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="bad"), suppress_startup_stderr():
        os.write(2, b"the reason")
        raise ValueError("bad")
    assert capfd.readouterr().err == "the reason"
    # whoever interrupts does not want to see them
    with pytest.raises(KeyboardInterrupt), suppress_startup_stderr():
        os.write(2, b"chatter")
        raise KeyboardInterrupt
    assert capfd.readouterr().err == ""
