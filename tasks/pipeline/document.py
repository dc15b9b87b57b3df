"""A YAML file as plain values, and the line of each of them.

Scalars follow YAML 1.2, as in editors and JSON: `1e-3` is a number, `no` is text, `010` is ten.
PyYAML by default follows YAML 1.1, where they are text, false and eight. (ruamel.yaml follows 1.2
and keeps lines, but takes 64 ms for a file that libyaml reads in 0.7.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import yaml

from tasks.base.problems import NOTHING, Path, Problem, ProblemsError

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT, _FLOAT, _NULL = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:null"


class _Loader(_Base):  # type: ignore[misc]  # the base is chosen at run time
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own interface


_FLOATS = r"""[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"""
for tag, pattern, first in (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+", list("-+0123456789")),
    (_FLOAT, _FLOATS, list("-+.0123456789")),
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$", re.VERBOSE), first)
_Loader.add_constructor(_INT, lambda loader, node: int(loader.construct_scalar(node)))


@dataclass(frozen=True)
class Document:
    """The values of a file, and their lines."""

    data: Any
    root: yaml.Node | None

    def line(self, field: Path) -> int:
        """The line of a field, or of the nearest part of the file around it; the first is 1."""
        node, line = self.root, 1
        for part in field:
            child = _child(node, part)
            if child is None:
                break
            mark, node = child
            line = mark.line + 1
        return line


def read(file: File) -> Document:
    """Read a YAML file.

    Raises:
        ProblemsError: It cannot be read, or is not valid.
    """
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        problem = Problem((), f"be readable, but it is not: {error.strerror}", line=1)
    except UnicodeDecodeError as error:
        problem = Problem((), f"be UTF-8 text, but byte {error.start} is not", line=1)
    raise ProblemsError("The file", [problem]) from None


def parse(text: str) -> Document:
    """Read YAML text.

    Raises:
        ProblemsError: It is not valid YAML, repeats a key, or contains itself.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return Document(None, None)
            if problems := list(_problems(root, ())):
                raise ProblemsError("The file", problems)
            return Document(loader.construct_document(root), root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ProblemsError("The file", [_syntax_problem(error)]) from None


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    parts = [getattr(error, key, None) for key in ("context", "problem")]
    reason = ", ".join(filter(None, parts)) or str(error)
    fix = ""
    if "cannot start any token" in reason:
        fix = "Indent with spaces, not tabs. Put a value that begins with @ or ` in quotes."
    line = 1 if mark is None else mark.line + 1
    return Problem((), f"be valid YAML, but it is not: {reason}", fix=fix, line=line)


def _problems(node: yaml.Node, path: Path, parents: tuple[int, ...] = ()) -> Iterator[Problem]:
    """Repeated keys (YAML would keep the last), keys that are not text, endless aliases."""
    if id(node) in parents:
        yield Problem(path, "not contain itself", line=node.start_mark.line + 1)
        return
    parents = (*parents, id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _problems(item, (*path, i), parents)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not key.tag.endswith((":str", ":merge")):
            got = key.value if isinstance(key, yaml.ScalarNode) else NOTHING
            yield Problem(path, f"have text as keys, not {got}", fix="Put it in quotes.", line=line)
            continue
        if key.value in lines:
            fix = f"The first is in line {lines[key.value]}."
            yield Problem((*path, key.value), "be given once", fix=fix, line=line)
        lines.setdefault(key.value, line)
        yield from _problems(value, (*path, key.value), parents)


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark, item
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark, item) for key, item in node.value if key.value == part), None)
    return None
