"""The user's own preparation function, in a Python file beside the pipeline file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import pandas as pd

from tasks.base.errors import MlopsError, UserError
from tasks.base.settings import settings
from tasks.clients import store


def path_of(reference: str) -> Path:
    """The file of `module:function`."""
    return settings().pipelines / f"{reference.partition(':')[0]}.py"


def digest(reference: str) -> str:
    """Digest of the function's file; what it imports from elsewhere is not seen."""
    return store.digest(_source(reference))


def apply(reference: str, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Call the function with one table a source; it returns the one table of the pipeline.

    Raises:
        UserError: there is no such function, it raised, or it returned something else.
    """
    function = _load(reference)
    try:
        table = function(tables)
    except (MlopsError, ConnectionError, TimeoutError):
        raise  # may pass, or says already what is wrong
    except Exception as err:
        where = traceback.extract_tb(err.__traceback__)[-1]
        raise UserError(
            f"The function {reference} of 'data.prepare' failed.",
            why=f"{type(err).__name__}: {err} ({where.filename}, line {where.lineno})",
            fix=f"Correct {path_of(reference)}.",
        ) from err
    if not isinstance(table, pd.DataFrame):
        raise UserError(
            f"The function {reference} of 'data.prepare' must return one pandas DataFrame. "
            f"Got {type(table).__name__} instead.",
            fix=f"Correct {path_of(reference)}.",
        )
    return table


class _Uncached(SourceFileLoader):
    """Reads the source each time: a cached one is told from it by size and whole seconds only."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self.get_data(self.path), self.path)


def _source(reference: str) -> bytes:
    try:
        return path_of(reference).read_bytes()
    except OSError as err:
        raise UserError(
            f"The file of the function {reference} of 'data.prepare' cannot be read.",
            why=f"{path_of(reference)}: {err.strerror}.",
            fix="Put it beside the pipeline file.",
        ) from err


def _load(reference: str) -> Callable[[list[pd.DataFrame]], Any]:
    _source(reference)
    module_name, _, name = reference.partition(":")
    # Under a name of its own: a pipeline file's neighbour must not shadow a package of that name.
    full_name = f"_mlops_pipeline_{module_name}"
    spec = importlib.util.spec_from_loader(full_name, _Uncached(full_name, str(path_of(reference))))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while it is made
    try:
        spec.loader.exec_module(module)
    except Exception as err:
        raise UserError(
            f"{path_of(reference)} cannot be imported.", why=f"{type(err).__name__}: {err}"
        ) from err
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(
            f"{path_of(reference)} has no function {name!r}.",
            fix="Correct data.prepare in the pipeline file.",
        )
    return function  # type: ignore[no-any-return]
