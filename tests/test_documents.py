"""Every command and every block of Python in README and docs is one that exists; the cheap ones are run."""

import ast
import configparser
import contextlib
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kspecsr
import layouts
from benchmarks.__main__ import main as benchmarks
from data_pipeline.command_line import from_clone
from data_pipeline.writers.spectrum_fits import write_spectrum
from enhancement_sample import BINS, IDENTITY, REDSHIFT, StandIn, prism_spectrum, write_stand_in_folder
from examples.__main__ import main as examples
from kspecsr.__main__ import main
from kspecsr.super_resolver import SuperResolver

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PROGRAMS = {"kspecsr": main, "python -m benchmarks": benchmarks, "python -m examples": examples}


def blocks(path, *kinds):
    """Code blocks of these kinds."""
    found = re.findall(r"^```(.*)\n((?:.*\n)*?)```", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [text for kind, text in found if kind.strip().startswith(kinds)]


def commands():
    """Document, words of a command, and whether it is shown whole, for all that blocks and sentences show."""
    for path in DOCUMENTS:
        lines = [row for text in blocks(path, "sh") for row in text.replace("\\\n", " ").splitlines()]
        notebook = [row for text in blocks(path, "{code-cell}", "python") for row in text.splitlines()]
        lines += [row.removeprefix("!") for row in notebook if row.startswith("!")]
        outside = re.sub(r"^```(?:.*\n)*?```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        spans = re.findall(r"`((?:kspecsr|python -m (?:benchmarks|examples)) [a-z][^`]*)`", outside)
        for row in [*lines, *(" ".join(text.split()) for text in spans)]:
            for part in re.split(r"\||&&|;", row):
                words = shlex.split(re.sub(r"(?<=\s)[<>]+\s*\S+", "", part), comments=True)
                words = tuple(word for word in words if not re.match(r"^[A-Z_]+=", word))
                if words and "..." not in words:
                    yield path.name, words, row in lines


SHOWN = list(dict.fromkeys(commands()))


@pytest.mark.parametrize(("document", "words", "whole"), SHOWN, ids=[" ".join(w)[:70] for _, w, _ in SHOWN])
def test_every_command_shown_is_one(document, words, whole, capsys):
    program = next((name for name in PROGRAMS if words[: len(name.split())] == tuple(name.split())), None)
    if program is None:
        check_other(words)
        return
    rest, table = list(words[len(program.split()) :]), PROGRAMS[program]
    if rest[-1:] in (["--help"], ["--version"]):
        with contextlib.suppress(SystemExit):  # argparse leaves after its help
            assert table(rest) == 0
        return
    length = next((n for n in (2, 1) if " ".join(rest[:n]) in table.commands), 0)
    assert length, f"{document}: no command {' '.join(rest[:2])}"
    parser = table.command(" ".join(rest[:length])).parser()
    if not whole:  # in a sentence
        options = {flag for action in parser._actions for flag in action.option_strings}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options
        return
    try:
        parser.parse_args(rest[length:])
    except SystemExit:
        pytest.fail(f"{document}: {' '.join(words)}: {capsys.readouterr().err}", pytrace=False)


def check_other(words):
    """Commands of other programs, as far as this repository decides about them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if words[0] == "make":
        assert words[1] in targets
    if words[:2] == ("pip", "install"):
        extras = set(re.findall(r"\w+", " ".join(re.findall(r"\.\[(.*?)\]", " ".join(words)))))
        assert extras <= set(setup["options.extras_require"])
        assert not any(word.startswith("kspecsr") for word in words), "there is no kspecsr on PyPI"
    if words[:2] == ("python", "-m"):
        assert words[2].startswith("benchmarks."), "other commands are kspecsr ..."
        from_clone(words[2]).parser().parse_args(words[3:])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_of_python_compiles_and_imports_what_is_there(path):
    for text in blocks(path, "python", "{code-cell}"):
        rows = [row for row in text.splitlines() if not row.startswith(("!", ":tags:", "%"))]
        for node in ast.walk(ast.parse("\n".join(rows))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("kspecsr", "data_pipeline"):
                place = __import__(node.module, fromlist=["*"])
                assert not [name.name for name in node.names if not hasattr(place, name.name)]


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kspecsr, "load", lambda: SuperResolver(StandIn(), IDENTITY, BINS))
    write_spectrum("my_prism_x1d.fits", prism_spectrum(), {})
    found = {}
    for text in blocks(ROOT / "README.md", "python"):
        exec(compile(text, "README.md", "exec"), found)
    assert found["result"].redshift.value == pytest.approx(REDSHIFT)
    # what it says of a file: its checksum, also from Python
    assert len(found["again"].input_sha256) == 64
    assert found["again"].input_sha256 == found["result"].input_sha256
    assert Path("my_prism.png").is_file()


@pytest.mark.parametrize("command", ["data simulate --archive a --n 1 --seed 3", "tune --show-axes", "info"])
def test_cheap_commands_run(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 0
    if command.startswith("data"):
        assert main(["data", "readers", *map(str, Path("a").rglob("*x1d.fits"))]) == 0
        assert main(["linefit", "a", "--redshift", "2", "--output", "lines"]) == 0
        assert list(Path("lines").glob("*_linefit.ecsv"))
    assert capsys.readouterr().out


def folder_of_a_user():
    """The files that README and guide speak of, in the folder where this runs, small."""
    spectrum = prism_spectrum()
    for name in ("my_prism_x1d.fits", "x.fits", "archive/a.fits", "archive/b.fits", "data/dr4/c.fits"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_spectrum(name, spectrum, {})
    for name, column in (("redshifts.csv", "z_spec"), ("z.csv", "z_spec")):
        Path(name).write_text(
            f"file,{column}\na.fits,3.235\nmy_prism_x1d.fits,{REDSHIFT}\n", encoding="utf-8"
        )
    Path("paths.csv").write_text("name,file,z_spec\nA,archive/a.fits,3.235\n", encoding="utf-8")
    flags = np.zeros(706, np.int32)
    columns = layouts.pipeline_columns(spectrum.wavelength, spectrum.flux, spectrum.error, flags)
    layouts.write(
        "slits_x1d.fits", {"GRATING": "PRISM"}, *(layouts.table(columns, "EXTRACT1D") for _ in range(3))
    )
    rows = {
        "wavelength": spectrum.wavelength,
        "flux": spectrum.flux * 1e20,
        "flux_error": spectrum.error * 1e20,
    }
    pq.write_table(pa.table({name: [list(values)] for name, values in rows.items()}), "catalogue.parquet")


# What loads a stand-in instead of the networks; surveys only say what they would do
_RUN = ("enhance", "catalogue", "linefit", "survey", "data readers", "data simulate")


def test_commands_of_the_guide_run_in_their_order(tmp_path, monkeypatch, capsys):
    write_stand_in_folder(tmp_path / "runs" / "default")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        SuperResolver, "from_folder", lambda path, **more: SuperResolver(StandIn(), IDENTITY, BINS)
    )
    folder_of_a_user()
    ran = set()
    for document, words, whole in SHOWN:
        rest, text = list(words[1:]), " ".join(words[1:])
        command = next((name for name in _RUN if text.startswith(name)), None)
        told = (whole and document in ("results.md", "surveys.md", "data.md")) or document == "README.md"
        # gratings need a model with joint line errors; a cluster is not at hand
        if words[0] != "kspecsr" or not command or not told or {"--with", "--scheduler"} & set(rest):
            continue
        rest += ["--dry-run"] if command == "survey" else []
        rest = ["2" if before == "--n" else word for before, word in zip(["", *rest], rest, strict=False)]
        rest += ["--n", "400"] if "--check" in rest else []  # galaxies: the check's own number takes minutes
        assert main(rest) == 0, f"{document}: {text}: {capsys.readouterr().err}"
        ran.add(command)
    assert ran == set(_RUN)
    for name in (
        "results/my_prism_x1d_sr.png",
        "results/slits_x1d_hdu2_sr.fits",
        "catalogue.ecsv",
        "lines.ecsv",
    ):
        assert Path(name).is_file(), name
