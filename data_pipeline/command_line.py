"""The runner of all commands: shared options, messages, errors and exit status.

A command module holds ``_options``, which adds its options to a parser, and ``main``, the function that does
the work, made a `Command` by the decorator `command`. Heavy modules are imported inside ``main``: ``--help``
has to answer within a second.
"""

import argparse
import difflib
import importlib
import inspect
import logging
import os
import select
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOG = logging.getLogger("kspecsr.command")
# Loggers whose messages a command shows: modules of this project log under their own names
_PACKAGES = ("data_pipeline", "kspecsr", "tuning", "benchmarks", "examples")

# What Ctrl-C leaves behind
RESUMES = "rerun the same command to resume"
NOTHING_WRITTEN = "nothing was written"
COMPLETE_SO_FAR = "what was written is complete"


class OptionError(ValueError):
    """Options that are wrong or do not go together: exit status 2."""


@contextmanager
def interpreting_options() -> Iterator[None]:
    """Turns errors in here into an `OptionError`: the options are wrong, the work has not begun."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise OptionError(str(error)) from error


def at_least(least: float, kind: type = int) -> Callable[[str], float]:
    """Type of an option that takes a number of at least ``least``."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {what}, got {text}") from None
        if not value >= least:
            raise argparse.ArgumentTypeError(f"expected {least:g} or more, got {text}")
        return value

    number.metavar = "N" if kind is int else "X"
    return number


def above_zero(text: str) -> float:
    """Type of an option that takes a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value


def columns_of(text: str) -> tuple[str, ...]:
    """Type of an option that takes names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


# Options that several commands have, with the same words in each
_SHARED = {
    "--model": {"default": "default", "metavar": "NAME|DIR", "help": "shipped model, or a model folder"},
    "--output": {"type": Path, "metavar": "DIR", "help": "output folder"},
    "--workers": {"type": at_least(0), "default": 1, "help": "number of processes"},
    "--seed": {"type": at_least(0), "default": 0, "help": "random seed"},
    "--data": {
        "default": "simulation",  # whatever lies in data/: a rerun must find what the first run found
        "metavar": "DIR|simulation",
        "help": "records that kspecsr data build wrote, or fresh simulation",
    },
    "--population": {
        "choices": ("survey", "sky", "open-sky", "wide", "wide-sky", "wide-open"),
        "help": "survey: JADES statistics; wide: for training, with more scatter and flat redshifts; sky and "
        "wide-sky: the same with continua of library stars and outflows; open-sky and wide-open: these with "
        "brown dwarfs, stars, featureless spectra, breaks beyond z 15 and spectra in trouble",
    },
    "--extraction": {"choices": ("3pix", "5pix"), "default": "3pix", "help": "extraction to read"},
    "--hdu": {"metavar": "NAME|N", "help": "extension to read, by name or number, of files with several"},
    "--row": {"type": at_least(0), "help": "spectrum to read of tables with one per row, from 0"},
    "--precision": {
        "choices": ("float32", "mixed_bfloat16", "auto"),
        "default": "float32",
        "help": "of the networks' trunks; auto: bfloat16 where the processor or a GPU multiplies it",
    },
    "--zero-point": {
        "type": float,
        "default": 0.0,
        "metavar": "KM/S",
        "help": "velocity by which the release's lines lie too far to the red, taken off (DJA: 150 to 210)",
    },
    "--keep-flagged": {"action": "store_true", "help": "report lines of flagged spectra, too; flags stay"},
    "--archive": {"default": "", "metavar": "DIR", "help": "top of a tree of x1d or spec.fits files"},
    "--catalogue": {"default": "", "metavar": "FILE", "help": "default: the one in the archive"},
    "--columns": {"default": "", "metavar": "OURS=THEIRS,...", "help": "columns of a catalogue of your own"},
}


def add(parser: argparse._ActionsContainer, name: str, help: str = "", **keywords) -> None:
    """Adds an option; one that several commands have needs no more than its name, unless it states a metavar.

    Args:
        parser: parser, or a group of its options.
        name: option with its dashes, or name of a positional argument.
        help: what it is.
        **keywords: others of ``add_argument``; a number is shown as N, or X where it may have decimals.
    """
    shared = {} if "metavar" in keywords else _SHARED.get(name, {})
    keywords = {**shared, **({"help": help} if help else {}), **keywords}
    kind = keywords.get("type")
    if kind is not None and "choices" not in keywords:
        shown = {int: "N", float: "X", above_zero: "X"}.get(kind, getattr(kind, "metavar", None))
        if shown:
            keywords.setdefault("metavar", shown)
    parser.add_argument(name, **keywords)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves the examples as they are, and states the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        stated = text is None or "default" in text or not action.option_strings
        if stated or action.nargs == 0 or action.default in (None, "", [], ()):
            return text
        return f"{text} (default: %(default)s)"


@dataclass(frozen=True)
class Command:
    """A command, called with its arguments.

    Exit status: 0 done, 1 something failed, 2 wrong options, 130 interrupted.

    Attributes:
        name: as typed, for instance ``kspecsr enhance``.
        summary: what it does, for the head of ``--help``.
        epilog: examples and notes for the end of ``--help``.
        options: adds the command's own options to a parser.
        work: runs the command; returns the exit status, None for 0.
        interrupted: what holds after Ctrl-C, as text or as a function of the parsed options.
        extra: optional dependencies of ``setup.cfg`` that the command needs.
    """

    name: str
    summary: str
    epilog: str
    options: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace], int | None]
    interrupted: str | Callable[[argparse.Namespace], str] = NOTHING_WRITTEN
    extra: str = ""

    def parser(self, prog: str = "") -> argparse.ArgumentParser:
        """The parser, with the options that all commands have."""
        parser = argparse.ArgumentParser(
            prog=prog or self.name,
            description=inspect.cleandoc(self.summary),
            epilog=self.epilog,
            formatter_class=_HelpFormatter,
        )
        self.options(parser)
        parser.add_argument("--quiet", action="store_true", help="no progress bars; only warnings and errors")
        parser.add_argument("--verbose", action="store_true", help="more messages, and where an error arose")
        return parser

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command and returns its exit status.

        Arguments of None are those of the process, which was started with ``python -m``.
        """
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        started_as_module = argv is None and spec is not None
        # Errors name the command as it was typed.
        prog = f"python -m {spec.name.removesuffix('.__main__')}" if started_as_module else self.name
        args = self.parser(prog).parse_args(argv)
        with _messages(args):
            try:
                status = self.work(args) or 0
                sys.stdout.flush()  # a reader that has gone shows here, not at exit
                return status
            except KeyboardInterrupt:
                left = self.interrupted if isinstance(self.interrupted, str) else self.interrupted(args)
                if left == RESUMES and getattr(args, "restart", False):
                    left = RESUMES.replace("command", "command without --restart")
                LOG.error("\ninterrupted; %s", left)
                return 130
            except BrokenPipeError as error:
                return 1 if _reader_gone() else self._failed(error, args)
            except Exception as error:
                return self._failed(error, args)

    def _failed(self, error: Exception, args: argparse.Namespace) -> int:
        """Shows an error in one line, with ``--verbose`` with its traceback."""
        LOG.error("error: %s", _in_words(error, self.extra), exc_info=error if args.verbose else None)
        return 2 if isinstance(error, OptionError) else 1


def command(name: str, epilog: str, options, interrupted=NOTHING_WRITTEN, extra: str = "") -> Callable:
    """Makes a `Command` of a function that does the work; the function's docstring is the summary."""
    return lambda work: Command(name, work.__doc__, epilog, options, work, interrupted, extra)


def _in_words(error: Exception, extra: str) -> str:
    name = (getattr(error, "name", None) or "").split(".")[0]
    if isinstance(error, ModuleNotFoundError) and name and name not in _PACKAGES:
        cure, extra = f"pip install {name}", {"jax": "jax", "jaxlib": "jax"}.get(name, extra)
        if extra:
            cure = f"in a clone of the repository, pip install -c constraints.txt '.[{extra}]'"
        return f"{name} is not installed: {cure}"
    expected = isinstance(error, (ValueError, OSError, RuntimeError))
    if expected or type(error).__module__.split(".")[0] in _PACKAGES:
        return str(error)
    # a defect of the program: its kind says more than its text, which may be a mere key
    return f"unexpected {type(error).__name__}: {error}; --verbose shows where, please report it"


def _reader_gone() -> bool:
    """Whether the reader of standard output, such as ``head``, is gone; another pipe may have broken."""
    try:
        output, poll = sys.stdout.fileno(), select.poll()
        poll.register(output, 0)
        gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file, as in tests
        return False
    if gone:  # nothing may be flushed into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


class _BesideBars(logging.Handler):
    """Writes messages to stderr without breaking progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def _messages(args: argparse.Namespace) -> Iterator[None]:
    """Shows the messages of this project while a command runs."""
    level = logging.WARNING if args.quiet else logging.DEBUG if args.verbose else logging.INFO
    handler, loggers = _BesideBars(), [logging.getLogger(name) for name in _PACKAGES]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        # At the packages' own loggers: the root logger belongs to whoever imports them.
        logger.addHandler(handler)
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, earlier in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(earlier)


def from_clone(module: str) -> Command:
    """The command of a module, which may lie in ``benchmarks``: a clone has it and the wheel has not.

    Raises:
        SystemExit: outside a clone, saying so.
    """
    try:
        return importlib.import_module(module).main
    except ModuleNotFoundError as error:
        if error.name not in (module, module.split(".")[0]):
            raise
        sys.exit(f"error: {module} is part of a clone of the repository; run this command in one")


def list_failures(failures: Sequence[str], what: str = "failed") -> int:
    """Lists on stderr what failed, under a head of their number and ``what``; returns the exit status."""
    if not failures:
        return 0
    LOG.error("\n%s", "\n  ".join([f"{len(failures)} {what}:", *failures]))
    return 1


def say(text: str = "") -> None:
    """Prints a line of results at once, also into a pipe."""
    print(text, flush=True)


@dataclass(frozen=True)
class CommandTable:
    """Commands under one name; only the module of the one that is asked for is imported.

    Attributes:
        name: for instance ``kspecsr``.
        summary: what they do together.
        groups: title of a group -> words of a command -> the command and one line on it; instead of the
            command, the name of its module, which is imported when the command is wanted.
        version: that ``--version`` prints; empty for no such option.
    """

    name: str
    summary: str
    groups: Mapping[str, Mapping[str, tuple[Command | str, str]]]
    version: str = ""

    @property
    def commands(self) -> dict[str, Command | str]:
        """Words of every command -> the command or its module."""
        return {words: place for group in self.groups.values() for words, (place, _) in group.items()}

    def command(self, words: str) -> Command:
        """The command of these words, imported if need be."""
        place = self.commands[words]
        return from_clone(place) if isinstance(place, str) else place

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command that the arguments name and returns its exit status."""
        argv = sys.argv[1:] if argv is None else list(argv)
        if self.version and argv[:1] == ["--version"]:
            print(f"{self.name} {self.version}")
            return 0
        for length in (2, 1):
            words = " ".join(argv[:length])
            if words in self.commands and len(argv) >= length:
                return self.command(words)(argv[length:])
        first = argv[0] if argv else "--help"
        family = [words for words in self.commands if words.startswith(f"{first} ")]
        if first in ("-h", "--help") or (family and argv[1:] in ([], ["-h"], ["--help"])):
            print(self.help(family), end="")
            return 0
        unknown = " ".join(argv[:2]) if family else first
        near = difflib.get_close_matches(unknown, self.commands, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"{self.name} --help lists the commands"
        print(f"error: {self.name} has no command {unknown!r}; {hint}", file=sys.stderr)
        return 2

    def help(self, only: Sequence[str] = ()) -> str:
        """Commands in groups, a line each."""
        lines = [f"usage: {self.name} COMMAND [OPTIONS]", "", self.summary]
        width = max(map(len, self.commands))
        for title, group in self.groups.items():
            rows = [f"  {w:{width}}  {text}" for w, (_, text) in group.items() if not only or w in only]
            lines += ["", f"{title}:", *rows] if rows else []
        lines += ["", f"{self.name} COMMAND --help shows the options of a command, with examples."]
        return "\n".join(lines) + "\n"


@contextmanager
def suppress_startup_stderr() -> Iterator[None]:
    """Hides what TensorFlow writes to stderr on starting; shows all of it where something goes wrong.

    TensorFlow 2.21 writes to the file descriptor, before it looks at ``TF_CPP_MIN_LOG_LEVEL``.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:  # whatever it is, it goes on; an interrupt shows nothing of what was held
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
