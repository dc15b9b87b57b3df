"""A YAML file as plain values, and the line of each of them.

Scalars follow YAML 1.2, as editors and JSON do: `1e-3` is a number, `no` is text, `010` is ten.
PyYAML by itself follows YAML 1.1, where they are text, false and eight.
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


class _Loader(_Base):  # type: ignore[misc]  # a base chosen at run time
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
    """What a file says, and where."""

    data: Any
    root: yaml.Node | None

    def line(self, field: Path) -> int:
        """The line of a field, or of the nearest part of the file that holds it; 1 is the first."""
        node, line = self.root, 1
        for part in field:
            found = _child(node, part)
            if found is None:
                break
            mark, node = found
            line = mark.line + 1
        return line


def parse(text: str) -> Document:
    """Read YAML text.

    Raises:
        yaml.YAMLError: It is none; `syntax_problem` says it in our words.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        repeated = list(_repeated(root, ())) if root is not None else []
        if repeated:
            raise ProblemsError("The file", repeated)
        data = loader.construct_document(root) if root is not None else None
    finally:
        loader.dispose()
    return Document(data, root)


def read(file: File) -> Document:
    """Read a YAML file.

    Raises:
        ProblemsError: It cannot be read, is no YAML, or says something twice.
    """
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        problem = Problem((), f"be readable, but it is not: {error.strerror}", line=1)
    except UnicodeDecodeError as error:
        problem = Problem((), f"be UTF-8 text, but byte {error.start} is not", line=1)
    except yaml.YAMLError as error:
        problem = syntax_problem(error)
    except ProblemsError as error:
        raise ProblemsError(str(file), error.problems) from None
    raise ProblemsError(str(file), [problem]) from None


def syntax_problem(error: yaml.YAMLError) -> Problem:
    """What is wrong with the YAML, and in which line."""
    mark = getattr(error, "problem_mark", None)
    said = [getattr(error, key, None) for key in ("context", "problem")]
    reason = ", ".join(part for part in said if part) or str(error)
    fix = ""
    if "cannot start any token" in reason:
        fix = "Indent with spaces, not tabs; put a value that begins with @ or ` in quotes."
    line = 1 if mark is None else mark.line + 1
    return Problem((), f"be valid YAML, but it is not: {reason}", fix=fix, line=line)


def _repeated(node: yaml.Node, path: Path, parents: tuple[int, ...] = ()) -> Iterator[Problem]:
    """Keys given twice (YAML would keep the last), keys that are not text, endless aliases."""
    if id(node) in parents:
        yield Problem(path, "not hold itself", line=node.start_mark.line + 1)
        return
    parents = (*parents, id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _repeated(item, (*path, i), parents)
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
        yield from _repeated(value, (*path, key.value), parents)


def _child(node: yaml.Node | None, part: str | int) -> tuple[Any, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark, item
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark, value
    return None
