from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hyperopt import Trials, rand, space_eval
from hyperopt.base import Domain
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tasks.base.errors import UserError
from tasks.base.problems import ProblemsError
from tasks.pipeline import space

SPACE = {
    "choice": [
        {"estimator": "linear"},
        {"estimator": "ridge", "alpha": {"loguniform": ["log(1e-3)", "log(100)"]}},
        {"choice": [{"estimator": "svm", "c": {"normal": [0, 1]}}, {"estimator": "knn"}]},
        {
            "estimator": "forest",
            "trees": {"uniformint": [10, 300]},
            "features": {"choice": ["sqrt", None, {"uniform": [0.2, 1]}]},
            "layers": [8, {"randint": [1, 4]}],
            "optimizer": {"name": "adam", "rate": {"quniform": [0, 1, 0.25]}},
        },
        {"estimator": "ridge", "alpha": 1},
    ]
}

# --- made-up spaces: every function, literals, lists, mappings, choices to any depth

finite = st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3))
steps = st.sampled_from([0.01, 0.1, 0.5, 1, 2.5, 10])
literals = st.none() | st.booleans() | st.integers(-9, 9) | finite | st.text("ab", max_size=3)
keys = st.sampled_from(["a", "b", "c", "d", "e"])


def ordered(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=2, max_size=2, unique=True).map(sorted)


logs = st.floats(-9, 9).map(lambda x: round(x, 3))


def meant(bounds: list[float]) -> bool:
    """Whether these may be logarithms; others are refused as such that were forgotten."""
    return not 0 < bounds[0] < bounds[1] <= 1


distributions = st.one_of(
    ordered(finite).map(lambda a: {"uniform": a}),
    st.tuples(ordered(finite), steps).map(lambda a: {"quniform": [*a[0], a[1]]}),
    ordered(st.integers(-50, 50)).map(lambda a: {"uniformint": a}),
    ordered(logs).filter(meant).map(lambda a: {"loguniform": a}),
    st.tuples(ordered(logs).filter(meant), steps).map(lambda a: {"qloguniform": [*a[0], a[1]]}),
    st.tuples(finite, st.floats(0.1, 5)).map(lambda a: {"normal": list(a)}),
    st.tuples(finite, st.floats(0.1, 5), steps).map(lambda a: {"qnormal": list(a)}),
    st.tuples(logs, st.floats(0.1, 2)).map(lambda a: {"lognormal": list(a)}),
    st.tuples(logs, st.floats(0.1, 2), steps).map(lambda a: {"qlognormal": list(a)}),
    st.integers(1, 20).map(lambda high: {"randint": [high]}),
    ordered(st.integers(0, 20)).map(lambda a: {"randint": a}),
)


def choices(options: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(options, min_size=1, max_size=3, unique_by=repr)
    even = several.map(lambda o: {"choice": o})
    weighted = several.map(lambda o: {"pchoice": [[1 / len(o), option] for option in o]})
    return even | weighted


def tagged(value: Any) -> Any:
    """Mark the options of each choice, so that no two can give the same parameters."""
    if isinstance(value, list):
        return [tagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "choice" in value:
        return {"choice": [{"tag": i, "of": tagged(o)} for i, o in enumerate(value["choice"])]}
    if "pchoice" in value:
        pairs = enumerate(value["pchoice"])
        return {"pchoice": [[p, {"tag": i, "of": tagged(o)}] for i, (p, o) in pairs]}
    return {key: tagged(item) for key, item in value.items()}


values = st.recursive(
    literals | distributions,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2) | choices(inner)
    ),
    max_leaves=6,
)
families = st.tuples(
    st.sampled_from(["ridge", "tree", "svm"]), st.dictionaries(keys, values, max_size=3)
).map(lambda pair: {"estimator": pair[0], **pair[1]})
spaces = st.recursive(families, choices, max_leaves=4)


def parsed(raw: dict[str, Any]) -> space.Node:
    """The tree; what has two equal options is no example."""
    try:
        return space.parse(raw)
    except ProblemsError as error:
        assume(all("differ from" not in problem.must for problem in error.problems))
        raise


def draw(node: space.Node, seed: int) -> dict[str, Any]:
    """Hyperopt's own random vals."""
    domain = Domain(lambda _: 0.0, space.to_hyperopt(node))
    assert set(domain.params) == set(node.labels())
    vals = rand.suggest([0], domain, Trials(), seed)[0]["misc"]["vals"]
    return {
        label: drawn[0].item() if hasattr(drawn[0], "item") else drawn[0]
        for label, drawn in vals.items()
        if drawn
    }


relaxed = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


@relaxed
@given(raw=spaces, seed=st.integers(0, 2**31 - 1))
def test_params_are_hyperopts_own(raw: dict[str, Any], seed: int) -> None:
    node = parsed(raw)
    vals = draw(node, seed)
    params = space.evaluate(node, vals)
    assert typed(params) == typed(space_eval(space.to_hyperopt(node), vals))


@relaxed
@given(raw=spaces, seed=st.integers(0, 2**31 - 1))
def test_params_survive_the_way_over_json_and_vals(raw: dict[str, Any], seed: int) -> None:
    """Where options overlap, another option may match, but never other parameters."""
    node = parsed(raw)
    params = space.evaluate(node, draw(node, seed))
    again = space.to_vals(node, json.loads(json.dumps(params)))
    assert space.evaluate(node, again) == params


@relaxed
@given(raw=families.map(tagged), seed=st.integers(0, 2**31 - 1))
def test_vals_survive_the_way_over_params(raw: dict[str, Any], seed: int) -> None:
    node = parsed(raw)
    vals = draw(node, seed)
    assert space.to_vals(node, space.evaluate(node, vals)) == vals


@relaxed
@given(raw=spaces, seed=st.integers(0, 2**31 - 1))
def test_a_grid_holds_every_point_once(raw: dict[str, Any], seed: int) -> None:
    node = parsed(raw)
    size = node.size()
    assume(size is not None and size <= 500)
    grid = space.grid(node)
    points = [grid.at(i) for i in range(grid.size)]
    assert len({json.dumps(point, sort_keys=True) for point in points}) == grid.size
    assert rounded(draw(node, seed)) in [rounded(point) for point in points]
    with pytest.raises(IndexError):
        grid.at(grid.size)


@relaxed
@given(raw=spaces)
def test_labels_are_unique_and_stable(raw: dict[str, Any]) -> None:
    labels = parsed(raw).labels()
    assert len(set(labels)) == len(labels)
    assert space.parse(json.loads(json.dumps(raw))).labels() == labels


def typed(value: Any) -> Any:
    """A value in which 1, 1.0 and true differ, and the order of keys does not count."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(typed(item) for item in value)
    return type(value), value


def rounded(vals: dict[str, Any]) -> dict[str, float]:
    return {label: round(value, 6) for label, value in vals.items()}


# --- the rest by example


def test_labels_say_where_a_parameter_is() -> None:
    assert space.parse(SPACE).labels() == (
        "estimator",
        "ridge.alpha",
        "estimator.2",
        "svm.c",
        "forest.trees",
        "forest.features",
        "forest.features.2",
        "forest.layers.1",
        "forest.optimizer.rate",
    )


def test_a_second_option_of_a_family_has_labels_of_its_own() -> None:
    option = {"estimator": "ridge", "alpha": {"uniform": [0, 1]}}
    other = {"estimator": "ridge", "alpha": {"uniform": [1, 2]}}
    labels = space.parse({"choice": [option, other]}).labels()
    assert labels == ("estimator", "ridge.alpha", "ridge_2.alpha")


def test_one_family_alone_has_the_same_labels_as_in_a_choice() -> None:
    option = {"estimator": "ridge", "alpha": {"uniform": [0, 1]}}
    assert space.parse(option).labels() == ("ridge.alpha",)


def test_families_and_flat_names() -> None:
    node = space.parse(SPACE)
    assert space.families(node) == {"linear", "ridge", "svm", "knn", "forest"}
    params = {
        "estimator": "forest",
        "trees": 20,
        "features": None,
        "layers": [8, 2],
        "optimizer": {"name": "adam", "rate": 0.5},
    }
    vals = space.to_vals(node, params)
    assert vals["estimator"] == 3
    assert space.flatten(space.evaluate(node, vals)) == {
        "estimator": "forest",
        "trees": 20,
        "features": None,
        "layers": "[8, 2]",
        "optimizer.name": "adam",
        "optimizer.rate": 0.5,
    }


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"estimator": "rigde", "alpha": 1}, "Did you mean 'ridge'?"),
        ({"alpha": 1}, "The 'estimator' field must be one of"),
        ({"estimator": "linear", "alpha": 1}, "The 'alpha' field must be left out"),
        ({"estimator": "svm", "c": "1"}, "The 'c' field must be a number. Got '1' instead."),
        ({"estimator": "svm", "c": True}, "The 'c' field must be a number."),
        ({"estimator": "svm", "c": math.nan}, "The 'c' field must be a number."),
        ({"estimator": "svm"}, "The 'c' field must be given."),
    ],
)
def test_parameters_that_the_space_cannot_give(params: dict[str, Any], message: str) -> None:
    with pytest.raises(space.NoMatch) as caught:
        space.to_vals(space.parse(SPACE), params)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "right", "wrong"),
    [
        ({"uniform": [0, 1]}, [0, 0.5, 1], [-0.01, 1.01]),
        ({"quniform": [0, 10, 2.5]}, [0, 2.5, 10], [1, 12.5]),
        ({"quniform": [1, 10, 4]}, [0, 4, 8], [1, 10, 12]),
        ({"uniformint": [1, 5]}, [1, 5, 3.0], [0, 6, 1.5]),
        ({"loguniform": ["log(0.1)", "log(10)"]}, [0.1, 1, 10], [0.09, 10.1, 0, -1]),
        ({"randint": [3]}, [0, 2], [3, -1, 0.5]),
        ({"randint": [2, 4]}, [2, 3], [1, 4]),
        ({"normal": [0, 1]}, [-1e9, 1e9], [math.inf]),
        ({"lognormal": [0, 1]}, [1e-9, 1e9], [0, -1]),
        ({"qlognormal": [0, 1, 2]}, [0, 2], [1, -2]),
        ({"choice": [1, True, "1", None]}, [1, True, "1", None], [0, False, 2]),
    ],
)
def test_what_an_expression_can_give(
    expression: dict[str, Any], right: list[Any], wrong: list[Any]
) -> None:
    node = space.parse({"estimator": "e", "x": expression})
    for value in right:
        vals = space.to_vals(node, {"estimator": "e", "x": value})
        assert space.evaluate(node, vals)["x"] == pytest.approx(value)
    for value in wrong:
        with pytest.raises(space.NoMatch):
            space.to_vals(node, {"estimator": "e", "x": value})


@pytest.mark.parametrize(
    ("expression", "place", "message"),
    [
        ({"uniform": [1, 0]}, "x.uniform", "have low < high"),
        ({"uniform": [0]}, "x.uniform", "be [low, high]"),
        ({"uniform": [0, "one"]}, "x.uniform.1", "be a number or log(NUMBER)"),
        ({"uniform": [0, math.inf]}, "x.uniform.1", "be a number or log(NUMBER)"),
        ({"loguniform": ["log(0)", 1]}, "x.loguniform.0", "with NUMBER > 0"),
        ({"loguniform": ["log(-1)", 1]}, "x.loguniform.0", "with NUMBER > 0"),
        ({"loguniform": [0.001, 100]}, "x.loguniform.1", "Write log(100)."),
        ({"loguniform": [0.01, "0.3"]}, "x.loguniform", "Write [log(0.01), log(0.3)]; if"),
        ({"qloguniform": [0.1, 0.9, 0.1]}, "x.qloguniform", "Write [log(0.1), log(0.9), 0.1]; if"),
        ({"quniform": [0, 1, 0]}, "x.quniform.2", "be greater than 0 (q)"),
        (
            {"quniform": [0, 1e308, 1e-308]},
            "x.quniform.2",
            "divide the range into at most",
        ),
        ({"normal": [0, -1]}, "x.normal.1", "be greater than 0 (sigma)"),
        ({"uniformint": [0.5, 2]}, "x.uniformint.0", "be an integer"),
        ({"randint": [0]}, "x.randint", "be at least 1"),
        ({"randint": []}, "x.randint", "be [low, high] or [high]"),
        ({"choice": []}, "x.choice", "be a list of options"),
        ({"choice": "a"}, "x.choice", "be a list of options"),
        ({"choice": [1, 1.0]}, "x.choice.1", "differ from"),
        ({"choice": [[1], [1]]}, "x.choice.1", "differ from"),
        ({"pchoice": [[0.5, 1], [0.6, 2]]}, "x.pchoice", "add up to 1"),
        ({"pchoice": [1, 2]}, "x.pchoice.0", "be [PROBABILITY, OPTION]"),
        ({"uniform": [0, 1], "q": 1}, "x.uniform", "be the only key"),
        ({"logunifrom": [0, 1]}, "x", "Did you mean 'loguniform'?"),
        ({"a.b": 1}, "x.a.b", "be named with letters"),
        (math.nan, "x", "be finite"),
        ({1, 2}, "x", "be a number, text"),
    ],
)
def test_an_impossible_expression(expression: Any, place: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        space.parse({"estimator": "e", "x": expression})
    assert f"The '{place}' field must" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"alpha": 1},
        {"estimator": 3},
        {"estimator": {"choice": ["a", "b"]}},
        {"choice": ["a"]},
        {"choice": [{"alpha": 1}]},
        {"uniform": [0, 1]},
    ],
)
def test_every_option_needs_a_family(raw: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"estimator|model family"):
        space.parse(raw)


def test_all_problems_of_a_space_come_at_once() -> None:
    raw = {"choice": [{"estimator": "rigde", "a": {"uniform": [1, 0]}}, {"b": {"choice": []}}]}
    with pytest.raises(ProblemsError) as caught:
        space.parse(raw, known=["ridge", "tree"])
    fields = [problem.field for problem in caught.value.problems]
    assert fields == [
        ("choice", 0, "estimator"),
        ("choice", 0, "a", "uniform"),
        ("choice", 1, "estimator"),
        ("choice", 1, "b", "choice"),
    ]


def test_bounds_may_be_text() -> None:
    node = space.parse({"estimator": "e", "x": {"uniform": ["1e-3", " log(1e1) "]}})
    vals = {"e.x": math.log(10)}
    assert space.to_vals(node, space.evaluate(node, vals)) == vals


def test_a_grid_counts_in_the_order_of_the_file() -> None:
    node = space.parse({"estimator": "e", "a": {"choice": ["x", "y"]}, "b": {"randint": [2]}})
    points = [space.evaluate(node, space.grid(node).at(i)) for i in range(4)]
    assert [(point["a"], point["b"]) for point in points] == [
        ("x", 0),
        ("x", 1),
        ("y", 0),
        ("y", 1),
    ]


def test_a_grid_needs_an_end() -> None:
    with pytest.raises(UserError, match="must be finite for a grid search"):
        space.grid(space.parse(SPACE))
