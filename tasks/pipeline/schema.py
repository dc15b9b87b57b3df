"""The pipeline file as frozen objects; docs/reference.md explains it to users."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.pipeline.metrics import DIRECTIONS, MINIMIZE, Direction, MetricName

Scalar = bool | int | float | str
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Task = Literal["regression", "binary", "multiclass"]
Algorithm = Literal["tpe", "random", "grid"]
GateMode = Literal["enforce", "dry_run", "disabled"]
Builder = Literal["mlops", "mlflow"]
ColumnType = Literal["double", "integer", "boolean", "category", "datetime", "string"]


class Section(BaseModel):
    """A frozen part of the file; a key that it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class Source(Section):
    """One table, or several of the same shape where `uri` is a glob."""

    uri: str = Field(
        description="sklearn://, file://, https:// or s3://; file:// and s3:// may hold *"
    )
    format: Literal["csv", "parquet", "jsonl"] | None = Field(
        None, description="how to read it; by default what the name ends in"
    )
    options: dict[str, Scalar | None] = Field({}, description="keywords for the reader, e.g. sep")
    constants: dict[str, Scalar] = Field({}, description="columns to add, e.g. color: red")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="digest of the file")


class Column(Section):
    """What one column must hold."""

    type: ColumnType = Field("double", description="what a value is")
    min: float | None = Field(None, description="smallest value allowed")
    max: float | None = Field(None, description="largest value allowed")
    values: tuple[Scalar, ...] | None = Field(None, description="the only values allowed")
    nullable: bool = Field(False, description="whether values may be missing")


class Data(Section):
    """Where the table comes from and what it must look like."""

    sources: tuple[Source, ...] = Field(min_length=1, description="tables, put under each other")
    prepare: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*:[A-Za-z_]\w*$",
        description="module:function beside the pipeline file; a list of tables in, one table out",
    )
    target: str = Field(description="the column to predict")
    task: Task = Field(description="a number, one of two classes, or one of several classes")
    columns: dict[str, Column] = Field(min_length=1, description="every column of the table")
    bad_rows: Literal["reject", "drop"] = Field(
        "reject", description="reject: one bad row ends the run; drop: leave such rows out"
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


class Folds(Section):
    """k-fold resampling in place of a validation part; folds respect units."""

    folds: int = Field(ge=2, le=20, description="how many")


class Search(Section):
    """The hyperopt search."""

    algorithm: Algorithm = Field("tpe", description="how the next point is chosen")
    trials: int = Field(40, ge=1, le=10_000, description="points to evaluate")
    slots: int = Field(2, ge=1, le=64, description="Airflow tasks that run trials side by side")
    trial_timeout: float = Field(300, gt=0, description="seconds for one trial")
    timeout: float | None = Field(None, gt=0, description="seconds for the whole search")
    seed: int = Field(0, ge=0, description="of the points and the models")
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


class Gate(Section):
    """What a challenger must show before it is promoted."""

    mode: GateMode = Field(
        "enforce", description="dry_run: record the decision, promote anyway; disabled: no decision"
    )
    thresholds: dict[str, float] = Field(
        {}, description="worst value allowed of a test metric, e.g. rmse: 70"
    )
    min_improvement: float = Field(0.0, ge=0, description="over the champion, in the metric's unit")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="of the one-sided interval of the improvement"
    )
    min_rows: int = Field(30, ge=2, description="test rows that neither model was trained on")
    resamples: int = Field(2000, ge=200, le=100_000, description="bootstrap resamples")
    seed: int = Field(0, ge=0, description="of the bootstrap")


class Serving(Section):
    """The endpoint."""

    target: Literal["process", "docker"] | None = Field(
        None, description="what a server is; null: the stack's, which MLOPS_TARGET tells"
    )
    builder: Builder = Field(
        "mlops", description="whose image and server: ours, or those of mlflow models build-docker"
    )
    replicas: int = Field(1, ge=1, le=12, description="containers that share the requests")
    cpus: float = Field(1.0, ge=0.1, le=1024, description="processors that each may use")
    memory: str = Field(
        "1g",
        pattern=r"^[1-9][0-9]{0,9}[mg]$",
        description="what each may use before it is ended and started again: 512m, 2g",
    )
    environment: dict[str, str] = Field({}, description="variables of the server; no secrets")
    labels: dict[str, str] = Field({}, description="labels of the containers")
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
    gate: Gate = Field(Gate(), description="what a challenger must show before it is promoted")
    serving: Serving = Field(Serving(), description="the endpoint")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns that the model sees, in the file's order."""
        apart = {self.data.target, self.split.column, *self.split.groups}
        return tuple(name for name in self.data.columns if name not in apart)
