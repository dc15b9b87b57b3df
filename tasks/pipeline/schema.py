"""The pipeline file as frozen objects; docs/reference.md explains it to users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.pipeline.metrics import DIRECTIONS, MINIMIZE, Direction, MetricName, Task

Scalar = bool | int | float | str
MOST_TRIALS = 10_000
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
MEMORY_PATTERN = r"^[1-9][0-9]{0,9}[mg]$"
Memory = Annotated[str, Field(pattern=MEMORY_PATTERN)]
SIZE_PATTERN = r"^[1-9][0-9]{0,9}[kmg]$"
FUNCTION_PATTERN = r"^[A-Za-z_]\w*:[A-Za-z_]\w*$"
CONNECTION_PATTERN = r"^[\w.-]+$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
LABEL_PATTERN = r"^[A-Za-z0-9_-]{1,63}$"
"""Without dots: tools own the names with one (ours, the engine's, a proxy's)."""
PATTERNS = {
    NAME_PATTERN: "be lower-case letters, digits and _, start with a letter, and have at most 63 "
    "characters",
    MEMORY_PATTERN: "be a whole number followed by m or g, e.g. 512m or 2g",
    SIZE_PATTERN: "be a whole number followed by k, m or g, e.g. 50m",
    FUNCTION_PATTERN: "be MODULE:FUNCTION",
    CONNECTION_PATTERN: "consist of letters, digits, _, - and .",
    SHA256_PATTERN: "be 64 lower-case hexadecimal digits",
    VARIABLE_PATTERN: "have a name of letters, digits and _ that does not start with a digit",
    LABEL_PATTERN: "have a name of letters, digits, _ and -, at most 63 characters",
}
"""What a value must be, by its pattern."""
Algorithm = Literal["tpe", "random", "grid"]
GateMode = Literal["enforce", "dry_run", "disabled"]
TunedMetric = Literal["accuracy", "f1"]
Builder = Literal["mlops", "mlflow"]
ColumnType = Literal["double", "integer", "boolean", "category", "datetime", "string"]
NO_FEATURES: frozenset[ColumnType] = frozenset({"datetime", "string"})
"""Types of columns that no model family takes."""


class WrongFieldError(AttributeError):
    """A field was read that is missing because the file's value of it is wrong."""


class Section(BaseModel):
    """A frozen part of the file; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )

    if not TYPE_CHECKING:  # to mypy, it would allow attributes of any name

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise WrongFieldError(name)
            return super().__getattr__(name)


class Source(Section):
    """One table, or several of the same shape where `uri` is a glob."""

    uri: str = Field(
        description="sklearn://, file://, https://, s3:// or postgresql://; file and s3 may hold *"
    )
    connection: str | None = Field(
        None,
        pattern=CONNECTION_PATTERN,
        description="Airflow connection, for s3:// and postgresql://",
    )
    query: str | None = Field(None, description="the SQL of a postgresql:// source")
    format: Literal["csv", "parquet", "jsonl"] | None = Field(
        None, description="how to read it; by default what the name ends in"
    )
    options: dict[str, Scalar | None] = Field({}, description="keywords for the reader, e.g. sep")
    constants: dict[str, Scalar] = Field({}, description="columns to add, e.g. color: red")
    sha256: str | None = Field(None, pattern=SHA256_PATTERN, description="digest of the file")


class Column(Section):
    """What one column must hold."""

    type: ColumnType = Field("double", description="what a value is")
    min: float | None = Field(None, description="smallest value allowed")
    max: float | None = Field(None, description="largest value allowed")
    values: tuple[Scalar, ...] | None = Field(None, description="the only values allowed")
    nullable: bool = Field(False, description="whether values may be missing")

    @property
    def categories(self) -> tuple[str, ...] | None:
        """The `values` of a category as the table has them: text."""
        return None if self.values is None else tuple(map(text, self.values))


def text(value: Any) -> str:
    """A category's name; 3.0 is "3", as whole numbers beside a null are read as doubles."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class Drift(Section):
    """What to do when a source's columns are others than the file's."""

    new: Literal["reject", "ignore"] = Field(
        "reject", description="a column that the file does not name; ignore: leave it out"
    )
    lost: Literal["reject", "fill"] = Field(
        "reject", description="a column that is not there; fill: nulls, where it is nullable"
    )
    type: Literal["reject", "fill"] = Field(
        "reject", description="a column without one value of its type; fill: as if it were lost"
    )


class Data(Section):
    """Where the table comes from and what it must look like."""

    sources: tuple[Source, ...] = Field(min_length=1, description="tables, put under each other")
    prepare: str | None = Field(
        None,
        pattern=FUNCTION_PATTERN,
        description="module:function beside the pipeline file; a list of tables in, one table out",
    )
    target: str = Field(description="the column to predict")
    task: Task = Field(description="a number, one of two classes, or one of several classes")
    columns: dict[str, Column] = Field(min_length=1, description="every column of the table")
    bad_rows: Literal["reject", "drop"] = Field(
        "reject", description="reject: one bad row ends the run; drop: leave such rows out"
    )
    drift: Drift = Field(Drift(), description="when a source's columns have changed")
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None, description="how much a row of a class counts in training; balanced: classes alike"
    )


class Impute(Section):
    """How missing values are filled; `none` leaves them to the model."""

    numeric: Literal["none", "mean", "median"] = Field("median", description="for numbers")
    category: Literal["none", "most_frequent"] = Field(
        "most_frequent", description="for categories"
    )


class Features(Section):
    """Preparation inside the model, fitted on training rows only."""

    scale: Literal["none", "standard", "minmax"] = Field(
        "none", description="standard: mean 0, deviation 1; minmax: 0 to 1"
    )
    encode: Literal["onehot", "ordinal"] = Field("onehot", description="categories as numbers")
    impute: Impute = Field(Impute(), description="how missing values are filled")


class Split(Section):
    """Who is in which part. A unit (see `groups`) never has rows in two parts."""

    method: Literal["hash", "time", "random"] = Field(
        "hash", description="hash: a row never changes sides; time: newest last; random: a shuffle"
    )
    test: float = Field(0.2, gt=0, lt=1, description="fraction of the units")
    validation: float = Field(0.2, ge=0, lt=1, description="fraction; 0 with k-fold resampling")
    seed: int = Field(0, ge=0, lt=2**32, description="of the hash or the shuffle")
    groups: tuple[str, ...] = Field(
        (), description="columns that name a unit; none: the feature row"
    )
    column: str | None = Field(None, description="the datetime column, for method time")
    stratify: bool = Field(
        False, description="whether every part has its share of each class, for method random"
    )


class Folds(Section):
    """k-fold resampling in place of a validation part; folds respect units."""

    folds: int = Field(ge=2, le=20, description="how many")


class Search(Section):
    """The hyperopt search."""

    algorithm: Algorithm = Field("tpe", description="how the next point is chosen")
    trials: int = Field(
        40, ge=1, le=MOST_TRIALS, description="points to evaluate; of a grid by default all"
    )
    slots: int = Field(2, ge=1, le=64, description="Airflow tasks that run trials side by side")
    trial_timeout: float = Field(300, gt=0, description="seconds for one trial")
    trial_memory: Memory | None = Field(
        None, description="memory for one trial: 512m, 4g; null: a slot's share of the machine's"
    )
    timeout: float | None = Field(None, gt=0, description="seconds for the whole search")
    seed: int = Field(0, ge=0, lt=2**32, description="of the points and the models")
    resampling: Literal["holdout"] | Folds = Field(
        "holdout", description="what scores a trial: the validation part, or k folds"
    )
    space: dict[str, Any] = Field(description="hyperopt expressions, see docs/reference.md")
    points: tuple[dict[str, Any], ...] = Field((), description="parameters to try first")


class Metric(Section):
    """The figure that trials, selection and gate compare."""

    name: MetricName
    direction: Direction = Field(description="by default the metric's own")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`metric: rmse` is enough: a metric's name tells its direction."""
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and "name" in value:
            return {"direction": DIRECTIONS.get(str(value["name"]), MINIMIZE), **value}
        return value


class Tuned(Section):
    """A threshold that the validation part decides."""

    maximize: TunedMetric = Field(description="the metric that it makes greatest")


class Slices(Section):
    """Rows with equal values of a column, on each of which the challenger must hold its own."""

    by: str = Field(description="the column; of type category, string, boolean or integer")
    metric: MetricName | None = Field(None, description="null: the pipeline's own")
    max_worsening: float = Field(0.0, ge=0, description="against the champion, in its unit")
    min_rows: int = Field(50, ge=2, description="with fewer a slice is not judged")


class Gate(Section):
    """What a challenger must show before it is promoted."""

    mode: GateMode = Field(
        "enforce", description="dry_run: record the decision, promote anyway; disabled: no decision"
    )
    thresholds: dict[str, float] = Field(
        {}, description="worst value allowed of a test metric, e.g. rmse: 70"
    )
    slices: tuple[Slices, ...] = Field((), description="where it must not be worse than before")
    model_size: str | None = Field(
        None, pattern=SIZE_PATTERN, description="most that its files may take: 50m"
    )
    latency_ms: float | None = Field(
        None, gt=0, description="most that one prediction of the smoke test's rows may take"
    )
    min_improvement: float = Field(0.0, ge=0, description="over the champion, in the metric's unit")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="of the one-sided interval of the improvement"
    )
    min_rows: int = Field(30, ge=2, description="test rows that neither model was trained on")
    resamples: int = Field(2000, ge=200, le=100_000, description="bootstrap resamples")
    seed: int = Field(0, ge=0, description="of the bootstrap")

    @property
    def model_bytes(self) -> int | None:
        """`model_size` as a number."""
        if self.model_size is None:
            return None
        return int(self.model_size[:-1]) << 10 * (1 + "kmg".index(self.model_size[-1]))


class Serving(Section):
    """The endpoint."""

    target: Literal["process", "docker"] | None = Field(
        None, description="what a server is; null: the stack's, which MLOPS_TARGET tells"
    )
    builder: Builder = Field(
        "mlops", description="whose image and server: ours, or those of mlflow models build-docker"
    )
    probabilities: bool = Field(
        False, description="of classes: whether an answer has their probabilities beside the labels"
    )
    replicas: int = Field(1, ge=1, le=12, description="containers that share the requests")
    cpus: float = Field(1.0, ge=0.1, le=1024, description="processors that each may use")
    memory: Memory = Field(
        "1g", description="what each may use before it is ended and started again: 512m, 2g"
    )
    environment: dict[Annotated[str, Field(pattern=VARIABLE_PATTERN)], str] = Field(
        {}, description="variables of the server; no secrets"
    )
    labels: dict[Annotated[str, Field(pattern=LABEL_PATTERN)], str] = Field(
        {}, description="labels of the containers"
    )
    keep: int = Field(
        2, ge=0, le=100, description="images of earlier versions that are kept to go back to"
    )
    start_timeout: float = Field(60, gt=0, description="seconds until the server must answer")
    drain_timeout: float = Field(30, ge=0, description="seconds an old server may take to finish")


class Pipeline(Section):
    """One registered model: its data, search, gate and serving."""

    name: Name = Field(description="the file's name without .yaml; also the registered model's")
    description: str = Field(description="what the model is for, in a sentence")
    owner: str = Field(description="who answers for it")
    tags: dict[str, str] = Field({}, description="anything to find it by")
    schedule: str | None = Field(None, description="cron expression or @daily, ...; none: by hand")
    data: Data = Field(description="where the table comes from and what it must look like")
    features: Features = Field(Features(), description="preparation inside the model")
    split: Split = Field(Split(), description="who is in the training, validation and test part")
    search: Search = Field(description="the hyperopt search")
    metric: Metric = Field(description="the figure that trials, selection and gate compare")
    threshold: Annotated[float, Field(gt=0, lt=1)] | Tuned = Field(
        0.5, description="probability from which a row is of the greater of two classes"
    )
    rounded: bool = Field(
        False, description="of a regression: whether answers are rounded to whole numbers"
    )
    gate: Gate = Field(Gate(), description="what a challenger must show before it is promoted")
    serving: Serving = Field(Serving(), description="the endpoint")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns that the model sees, in the file's order."""
        return tuple(
            name
            for name in self._possible_features
            if self.data.columns[name].type not in NO_FEATURES
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """The columns that would be features, were they not text or times."""
        return tuple(
            name for name in self._possible_features if self.data.columns[name].type in NO_FEATURES
        )

    @property
    def _possible_features(self) -> list[str]:
        apart = {self.data.target, self.split.column, *self.split.groups}
        return [name for name in self.data.columns if name not in apart]
