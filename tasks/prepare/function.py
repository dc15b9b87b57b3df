"""The user's own preparation function, in a Python file next to the pipeline file."""

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


def file_path(reference: str) -> Path:
    """The file of `module:function`."""
    return settings().pipelines / f"{reference.partition(':')[0]}.py"


def digest(reference: str) -> str:
    """Digest of the function's file, without what it imports."""
    return store.digest(_source(reference))


def apply(reference: str, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Call the function with one table per source; it returns the table of the pipeline.

    Raises:
        UserError: There is no such function, it raised, or it returned something else.
    """
    function = _load(reference)
    try:
        table = function(tables)
    except (MlopsError, ConnectionError, TimeoutError):
        raise  # may pass on a retry, or already explains itself
    except Exception as err:
        frame = traceback.extract_tb(err.__traceback__)[-1]
        raise UserError(
            f"The function {reference} of 'data.prepare' failed.",
            why=f"{type(err).__name__}: {err} ({frame.filename}, line {frame.lineno})",
            fix=f"Correct {file_path(reference)}.",
        ) from err
    if not isinstance(table, pd.DataFrame):
        raise UserError(
            f"The function {reference} of 'data.prepare' must return one pandas DataFrame. "
            f"Got {type(table).__name__} instead.",
            fix=f"Correct {file_path(reference)}.",
        )
    return table


class _Uncached(SourceFileLoader):
    """Always reads the source: a cache is only compared by size and time in whole seconds."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self.get_data(self.path), self.path)


def _source(reference: str) -> bytes:
    try:
        return file_path(reference).read_bytes()
    except OSError as err:
        raise UserError(
            f"The file of the function {reference} of 'data.prepare' cannot be read.",
            why=f"{file_path(reference)}: {err.strerror}.",
            fix="Put it next to the pipeline file.",
        ) from err


def _load(reference: str) -> Callable[[list[pd.DataFrame]], Any]:
    _source(reference)
    module_name, _, name = reference.partition(":")
    # Under its own name: a file next to the pipeline must not shadow a package.
    full_name = f"_mlops_pipeline_{module_name}"
    spec = importlib.util.spec_from_loader(
        full_name, _Uncached(full_name, str(file_path(reference)))
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module during import
    try:
        spec.loader.exec_module(module)
    except Exception as err:
        raise UserError(
            f"{file_path(reference)} cannot be imported.", why=f"{type(err).__name__}: {err}"
        ) from err
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(
            f"{file_path(reference)} has no function {name!r}.",
            fix="Correct data.prepare in the pipeline file.",
        )
    return function  # type: ignore[no-any-return]
