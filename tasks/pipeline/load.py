"""Pipeline files, by name or by path."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from tasks.base.errors import UserError
from tasks.base.problems import Problem, ProblemsError, did_you_mean
from tasks.base.settings import settings
from tasks.pipeline import document
from tasks.pipeline.checks import check
from tasks.pipeline.schema import NAME_PATTERN, Pipeline

log = logging.getLogger(__name__)

NAME = re.compile(NAME_PATTERN)
MANUAL = "docs/reference.md explains every field."


def names() -> list[str]:
    """The pipelines there are, by the names of their files; other files are passed over."""
    found = sorted(file.stem for file in settings().pipelines.glob("*.yaml"))
    for name in found:
        if not NAME.fullmatch(name):
            log.warning("%s.yaml is no pipeline: a name has a-z, 0-9 and _ only", name)
    return [name for name in found if NAME.fullmatch(name)]


def load(name: str) -> Pipeline:
    """The pipeline of this name.

    Raises:
        UserError: There is none, or its file has problems: all of them.
    """
    return parse_file(settings().pipelines / f"{known(name)}.yaml")


def known(name: str) -> str:
    """The name, if there is a pipeline of that name; otherwise a `UserError`."""
    others = names()
    if name in others:
        return name
    fix = did_you_mean(name, others)
    if (settings().pipelines / f"{name}.yml").is_file():
        fix = f"Rename {name}.yml to {name}.yaml."
    raise UserError(
        f"There is no pipeline {name!r}.",
        why=f"{settings().pipelines} has {', '.join(others) or 'no *.yaml file'}.",
        fix=fix,
    )


def parse_file(path: Path) -> Pipeline:
    """Read and check one file.

    Raises:
        UserError: A `ProblemsError` with everything that is wrong, each with its line.
    """
    shown = short(path)
    if path.suffix != ".yaml":
        must = "have a name that ends in .yaml, or it is no pipeline"
        raise ProblemsError(shown, [Problem((), must, path.name)])
    try:
        found = document.read(path)
    except ProblemsError as error:
        raise ProblemsError(shown, error.problems, fix=MANUAL) from None
    if not isinstance(found.data, Mapping):
        must = "be a mapping of keys such as data, search and metric"
        problem = Problem((), must, found.data, line=1)
        raise ProblemsError(shown, [problem], fix=MANUAL)
    result = check({**found.data, "name": path.stem}, path.parent)
    problems = result if isinstance(result, list) else []
    if found.data.get("name", path.stem) != path.stem:
        must = "be left out, or equal the file's name"
        problems.append(Problem(("name",), must, found.data["name"]))
    if problems or isinstance(result, list):
        placed = [dataclasses.replace(p, line=found.line(p.field)) for p in problems]
        placed.sort(key=lambda problem: problem.line or 0)
        raise ProblemsError(shown, placed, fix=MANUAL)
    return result


def short(path: Path) -> str:
    """The path as seen from where the user stands."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
