"""Checks, on the syntax trees, which module of this project imports which.

The rules are stated in CONTRIBUTING.md. Nothing is executed: a violation inside a function that no test
calls is found as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# package -> the other packages of this project that it may import
ALLOWED = {
    "data_pipeline": frozenset(),
    "kspecsr": frozenset({"data_pipeline"}),
    "tuning": frozenset({"data_pipeline", "kspecsr"}),
}
# also used where only NumPy and SciPy are installed
NUMPY_ONLY = (
    "data_pipeline.instrument",
    "data_pipeline.simulation",
    "data_pipeline.simulate",
    "kspecsr.configuration",
    "kspecsr.feeds",
    "tuning.space",
    "tuning.study",
)
TENSORFLOW = frozenset({"tensorflow", "tensorflow_probability", "keras", "tf_keras", "keras_tuner"})
# these run on every backend of Keras
BACKEND_FREE = ("kspecsr.layers", "kspecsr.losses", "kspecsr.models")
BACKENDS = frozenset({"tensorflow", "tensorflow_probability", "tf_keras", "jax", "torch"})
# command lines and kspecsr itself may import others inside functions: these take a second, Keras several
# import modules whose names are data: the runner, those of the table in kspecsr/__main__.py, which is the one
# place where kspecsr names tuning; the process of a trial, its training
BY_NAME = ("data_pipeline.command_line", "tuning.trial_process")


@dataclass(frozen=True)
class Import:
    """One import of one name.

    Attributes:
        importer: module that imports, dotted.
        package: module named in the statement, absolute and dotted.
        name: what is taken from it (``from package import name``); empty for ``import package``.
        line: line in the importer's file.
        at_top: stands at module level.
        for_types_only: stands under ``if TYPE_CHECKING:``.
    """

    importer: str
    package: str
    name: str
    line: int
    at_top: bool
    for_types_only: bool

    @property
    def root(self) -> str:
        """Top-level package that is imported."""
        return self.package.split(".")[0]

    def module(self, modules: dict[str, Path]) -> str:
        """Module that the statement executes, in so far as it can be one of ``modules``."""
        dotted = f"{self.package}.{self.name}"
        return dotted if self.name and dotted in modules else self.package


def project_modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of the three packages under ``root``."""
    modules = {}
    for package in ALLOWED:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def command_lines(modules: dict[str, Path]) -> set[str]:
    """The modules that are run with ``python -m``: they say ``if __name__ == "__main__":``."""
    return {
        name
        for name, path in modules.items()
        if any(
            isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _absolute(node: ast.ImportFrom, importer: str, is_package: bool) -> str:
    """The module that a ``from ... import`` names, with leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    parts = importer.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *((node.module or "").split(".") if node.module else [])])


def imports_of(module: str, path: Path) -> Iterator[Import]:
    """Every import in a file, at module level or inside a function, also by ``import_module("...")``."""
    is_package = path.name == "__init__.py"
    pending = [(node, True, False) for node in ast.parse(path.read_text(encoding="utf-8")).body]
    while pending:
        node, at_top, types = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, "", node.lineno, at_top, types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = _absolute(node, module, is_package)
            yield from (
                Import(module, package, alias.name, node.lineno, at_top, types) for alias in node.names
            )
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield Import(module, str(node.args[0].value), "", node.lineno, False, types)
        top_block = at_top and _is_type_checking(node)
        pending += [(child, top_block, types or top_block) for child in ast.iter_child_nodes(node)]


def imports_by_name(path: Path) -> Iterator[int]:
    """Lines that import a module whose name is not written out there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_call = isinstance(node, ast.Call)
        if is_call and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from [] if isinstance(node.args[0], ast.Constant) else [node.lineno]


def _lies_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in packages)


def _broken_rules(item: Import, target: str, commands: set[str]) -> Iterator[str]:
    owner = item.importer.split(".")[0]
    if item.root in ALLOWED:
        if item.root != owner and item.root not in ALLOWED[owner]:
            yield f"{owner} must not import {item.root}"
        lazy = item.importer == "kspecsr" or item.importer in commands
        if not item.at_top and not lazy:
            yield f"import of {target} is not at the top of the file"
        # kspecsr/train.py and its like run kspecsr/commands/train.py
        alias = item.importer in commands and target.startswith("kspecsr.commands.")
        if target in commands and not alias:
            yield f"{target} is a command line: move what is shared into a module of its own"
    if _lies_in(item.importer, NUMPY_ONLY) and item.root in TENSORFLOW:
        yield f"{item.root} must not be needed here (NumPy and SciPy only)"
    if _lies_in(item.importer, BACKEND_FREE) and item.root in BACKENDS:
        yield f"{item.root} must not be needed here (keras.ops only)"


def violations(root: Path) -> list[str]:
    """What breaks the import rules under ``root``, one line each as ``file:line: rule``."""
    modules = project_modules(root)
    commands = command_lines(modules)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    rooms: dict[str, set[str]] = {}
    found = []
    for module, path in modules.items():
        if module not in BY_NAME:
            found += [
                f"{path.relative_to(root)}:{line}: import of a module whose name is not written out"
                for line in imports_by_name(path)
            ]
        for item in imports_of(module, path):
            target = item.module(modules)
            where = f"{path.relative_to(root)}:{item.line}"
            found += [f"{where}: {rule}" for rule in _broken_rules(item, target, commands)]
            if target in modules and target != module and item.at_top:
                graph[module].add(target)
            if target in modules and room_of(target) != room_of(module):
                rooms.setdefault(room_of(module), set()).add(room_of(target))
    found += _cycle(graph, "import cycle") + _cycle(rooms, "import cycle of packages")
    return sorted(found)


def room_of(module: str) -> str:
    """The second-level package, or single module, that a module belongs to."""
    return ".".join(module.split(".")[:2])


def _cycle(graph: dict[str, set[str]], name: str) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"{name}: " + " <- ".join(error.args[1])]
    return []
