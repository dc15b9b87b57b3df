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
    """The pipelines, by the names of their files. Other files are ignored."""
    stems = sorted(file.stem for file in settings().pipelines.glob("*.yaml"))
    for stem in stems:
        if not NAME.fullmatch(stem):
            log.warning("%s.yaml is ignored: a name has a-z, 0-9 and _ only", stem)
    return [stem for stem in stems if NAME.fullmatch(stem)]


def load(name: str) -> Pipeline:
    """The pipeline of this name.

    Raises:
        UserError: It does not exist, or its file has mistakes (a `ProblemsError` with all of them).
    """
    return parse_file(settings().pipelines / f"{known(name)}.yaml")


def known(name: str) -> str:
    """The name, if a pipeline has it.

    Raises:
        UserError: No pipeline has this name.
    """
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
        ProblemsError: With everything that is wrong, each with its line.
    """
    if path.suffix != ".yaml":
        raise ProblemsError(short(path), [Problem((), "have a name that ends in .yaml", path.name)])
    try:
        file = document.read(path)
    except ProblemsError as error:
        raise ProblemsError(short(path), error.problems, fix=MANUAL) from None
    result = _check(file, path)
    if isinstance(result, Pipeline):
        return result
    placed = [dataclasses.replace(p, line=file.line(p.field)) for p in result]
    placed.sort(key=lambda problem: problem.line or 0)
    raise ProblemsError(short(path), placed, fix=MANUAL)


def _check(file: document.Document, path: Path) -> Pipeline | list[Problem]:
    if not isinstance(file.data, Mapping):
        return [Problem((), "be a mapping of keys such as data, search and metric", file.data)]
    result = check({**file.data, "name": path.stem}, path.parent)
    name = file.data.get("name", path.stem)
    if name == path.stem:
        return result
    wrong_name = Problem(("name",), "be left out, or equal the file's name", name)
    return [*(result if isinstance(result, list) else []), wrong_name]


def short(path: Path) -> str:
    """The path relative to the working directory, if it is below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
