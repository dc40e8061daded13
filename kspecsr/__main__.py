"""``kspecsr``: all commands under one name, also ``python -m kspecsr``."""

import argparse
import sys

from data_pipeline import command_line as cli
from kspecsr import __version__

_BASH = """_kspecsr() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
  case "${{COMP_WORDS[*]:1:2}}" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ ${{#COMPREPLY[@]}} -gt 0 || $current == -* ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -o filenames -F _kspecsr kspecsr
"""
_EXAMPLES = """examples:
  kspecsr completion bash > ~/.local/share/bash-completion/completions/kspecsr
  kspecsr completion zsh >> ~/.zshrc
  kspecsr completion fish > ~/.config/fish/completions/kspecsr.fish
"""


def _bash(words: dict[str, list[str]]) -> str:
    """A function that completes commands, then options, then files."""
    families = sorted({name.split()[0] for name in words if " " in name})
    # `data build` and `enhance` alike: the more words, the earlier they are looked for
    cases = [
        f'    "{name}"*) words="{" ".join(options)}" ;;' for name, options in words.items() if " " in name
    ]
    for family in families:
        members = [name.split()[1] for name in words if name.startswith(f"{family} ")]
        cases.append(f'    "{family} "*) words="{" ".join(members)}" ;;')
    cases += [f'    "{n} "*) words="{" ".join(options)}" ;;' for n, options in words.items() if " " not in n]
    first = [*dict.fromkeys(name.split()[0] for name in words), "--help", "--version"]
    cases.append(f'    *) words="{" ".join(first)}" ;;')
    return _BASH.format(cases="\n".join(cases))


def _fish(words: dict[str, list[str]]) -> str:
    """Commands that are offered where none stands yet, and the options of each."""
    lines = []
    for group in main.groups.values():
        for name, (_, text) in group.items():
            before, word = name.split() if " " in name else ("", name)
            condition = f"__fish_seen_subcommand_from {before}" if before else "__fish_use_subcommand"
            lines.append(f"complete -c kspecsr -n '{condition}' -a {word} -d '{text}'")
            lines += [
                f"complete -c kspecsr -n '__fish_seen_subcommand_from {word}' -l {option[2:]}"
                for option in words[name]
            ]
    families = sorted({name.split()[0] for name in words if " " in name})
    lines += [f"complete -c kspecsr -n __fish_use_subcommand -a {family}" for family in families]
    return "\n".join(lines) + "\n"


def completion_script(shell: str) -> str:
    """Script for a shell, made from the table of commands and their parsers."""
    words = {}
    for name in main.commands:
        actions = main.command(name).parser()._actions
        strings = (option for action in actions for option in action.option_strings)
        words[name] = [option for option in strings if option.startswith("--")]
    if shell == "fish":
        return _fish(words)
    # zsh runs completions that were written for bash
    prefix = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return prefix + _bash(words)


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "shell", choices=("bash", "zsh", "fish"))


@cli.command("kspecsr completion", _EXAMPLES, _options)
def _completion(args: argparse.Namespace) -> None:
    """Print a script with which a shell completes the commands of kspecsr, their options and files."""
    print(completion_script(args.shell), end="")


# Modules are named as text and imported one at a time: this is the only place where kspecsr names tuning, and
# why the help of any command answers at once (CONTRIBUTING.md, import rules).
main = cli.CommandTable(
    "kspecsr",
    "Super-resolution of JWST/NIRSpec prism spectra of galaxies.",
    {
        "use a model": {
            "enhance": ("kspecsr.enhance", "spectra to sharp spectra, redshifts and lines"),
            "catalogue": ("kspecsr.catalogue", "one table of many results"),
            "linefit": (
                "kspecsr.linefit",
                "line fluxes at a known redshift by a direct fit, without a model",
            ),
            "survey": ("kspecsr.survey", "a whole survey into Parquet tables"),
            "browse": ("kspecsr.browse", "look through results in a web browser"),
        },
        "serve a model": {
            "export": ("kspecsr.export", "a SavedModel for TensorFlow Serving"),
            "serve-client": ("kspecsr.client", "enhance on a server"),
        },
        "train and judge a model": {
            "train": ("kspecsr.train", "train its stages"),
            "calibrate": ("kspecsr.calibrate", "calibrate the errors that it states"),
            "evaluate": ("kspecsr.evaluate", "report on galaxies that it never saw"),
            "robustness": ("benchmarks.robustness", "difficult spectra, case by case"),
            "identical-networks": (
                "benchmarks.identical_networks",
                "redshifts from prism, super-resolved and grating spectra (Fig. 9)",
            ),
            "publish": ("kspecsr.publish", "a model folder for others, with a model card"),
            "tune": ("tuning.run", "hyper-parameter sweeps"),
            "tune-report": ("tuning.report", "pictures and tables of a sweep"),
            "tune-baselines": ("benchmarks.tune_baselines", "tune the classical deconvolutions"),
        },
        "prepare data": {
            "data simulate": ("data_pipeline.simulate", "a JADES-like survey with known truth"),
            "data download": ("data_pipeline.download", "JADES spectra and their catalogue"),
            "data build": ("data_pipeline.build", "training records from an archive or simulation"),
            "data records": ("data_pipeline.records.__main__", "verify records and show their content"),
            "data readers": ("data_pipeline.readers.__main__", "read spectra and print a line on each"),
            "data inspect": ("data_pipeline.inspect", "pictures of spectra, pairs and records"),
            "data compare": ("data_pipeline.compare", "prism against gratings, line by line"),
            "data stellar-library": ("benchmarks.stellar_library", "the simulator's stellar populations"),
            "data check": ("benchmarks.stitching_check", "stitching and alignment against the truth"),
        },
        "about the installation": {
            "info": ("kspecsr.info", "model, versions, backend, threads and how to cite"),
            "completion": (_completion, "completion of commands and options for your shell"),
        },
    },
    version=__version__,
)

if __name__ == "__main__":
    sys.exit(main())
