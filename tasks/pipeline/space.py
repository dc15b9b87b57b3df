"""The search space of a pipeline file, with hyperopt's semantics and without hyperopt.

`parse` turns the file's expressions into a tree of `tasks.pipeline.nodes`, which also explains
`params` and `vals`. The other functions work on the tree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.base.errors import UserError
from tasks.pipeline.nodes import (
    ESTIMATOR,
    Group,
    Node,
    NoMatch,
    Scalar,
    Vals,
    families,
    family,
    options,
)
from tasks.pipeline.space_parser import parse

__all__ = [
    "ESTIMATOR",
    "Grid",
    "Group",
    "NoMatch",
    "Node",
    "Vals",
    "evaluate",
    "families",
    "family",
    "flatten",
    "grid",
    "options",
    "parse",
    "to_hyperopt",
    "to_vals",
]


@dataclass(frozen=True)
class Grid:
    """The points of a finite space, in order."""

    node: Node
    size: int

    def at(self, index: int) -> Vals:
        """The vals of point number `index`."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self.node.at(index)


def evaluate(node: Node, vals: Mapping[str, Any]) -> dict[str, Any]:
    """The nested parameters of `vals`, with tuples for lists, as from hyperopt."""
    params: dict[str, Any] = node.evaluate(vals)
    return params


def to_vals(node: Node, params: Mapping[str, Any]) -> Vals:
    """The `vals` of plain parameters, by the first option that fits.

    Raises:
        NoMatch: The space does not contain these parameters.
    """
    return node.match(params, ())


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Nested parameters under flat names (`optimizer.rate`); a list becomes JSON text."""
    flat: dict[str, Scalar] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat


def grid(node: Node) -> Grid:
    """All points of a finite space.

    Raises:
        UserError: The space is infinite.
    """
    size = node.size()
    if size is None:
        raise UserError(
            "The 'search.space' field must be finite for a grid search: only choices, randint, "
            "uniformint, quniform and qloguniform.",
            fix="Use algorithm tpe or random, or give the other parameters steps.",
        )
    return Grid(node, size)


def to_hyperopt(node: Node) -> Any:
    """The space for hyperopt, whose `space_eval` then agrees with `evaluate`."""
    from hyperopt import hp

    return node.expression(hp)
