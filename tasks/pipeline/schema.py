"""The pipeline file as frozen objects; the docstrings of the fields become the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.pipeline.metrics import DIRECTIONS, MINIMIZE, Direction, MetricName, Task

Scalar = bool | int | float | str
Algorithm = Literal["tpe", "random", "grid"]
GateMode = Literal["enforce", "dry_run", "disabled"]
TunedMetric = Literal["accuracy", "f1"]
Builder = Literal["mlops", "mlflow"]
ColumnType = Literal["double", "integer", "boolean", "category", "datetime", "string"]
NO_FEATURES: frozenset[ColumnType] = frozenset({"datetime", "string"})
"""Types of columns that no model family accepts."""
MOST_TRIALS = 10_000

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
FUNCTION_PATTERN = r"^[A-Za-z_]\w*:[A-Za-z_]\w*$"
CONNECTION_PATTERN = r"^[\w.-]+$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
MEMORY_PATTERN = r"^[1-9][0-9]{0,9}[mg]$"
SIZE_PATTERN = r"^[1-9][0-9]{0,9}[kmg]$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
LABEL_PATTERN = r"^[A-Za-z0-9_-]{1,63}$"
"""Without dots: names with dots belong to tools (ours, the engine's, a proxy's)."""
PATTERNS = {
    NAME_PATTERN: "be at most 63 lower-case letters, digits and _, and start with a letter",
    FUNCTION_PATTERN: "be MODULE:FUNCTION",
    CONNECTION_PATTERN: "consist of letters, digits, _, - and .",
    SHA256_PATTERN: "be 64 lower-case hexadecimal digits",
    MEMORY_PATTERN: "be a whole number followed by m or g, e.g. 512m or 2g",
    SIZE_PATTERN: "be a whole number followed by k, m or g, e.g. 50m",
    VARIABLE_PATTERN: "have a name of letters, digits and _ that does not start with a digit",
    LABEL_PATTERN: "have a name of letters, digits, _ and -, at most 63 characters",
}
"""What a value must be, by its pattern."""


class WrongFieldError(AttributeError):
    """A field was read that is missing because the file's value of it is wrong."""


class Section(BaseModel):
    """A frozen part of the file; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    if not TYPE_CHECKING:  # to mypy, it would allow attributes of any name

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise WrongFieldError(name)
            return super().__getattr__(name)


class Source(Section):
    """One table, or several of the same shape if `uri` is a glob."""

    uri: str
    """Where the table is: `sklearn://diabetes`, `iris`, `wine` or `breast_cancer` (they ship with
    scikit-learn), `file://PATH` (absolute, or relative to the pipeline file), `https://...`,
    `http://...`, `s3://BUCKET/KEY`, `postgresql://` or `postgresql://DATABASE`. `file://` and
    `s3://` may contain `*`, `?` and `[...]`, to read several files of the same shape."""
    connection: str | None = Field(None, pattern=CONNECTION_PATTERN)
    """The Airflow connection. A `postgresql://` source requires one; so does an `s3://` source
    that is not in the stack's own store."""
    query: str | None = None
    """The SQL of a `postgresql://` source."""
    format: Literal["csv", "parquet", "jsonl"] | None = None
    """`csv`, `parquet` or `jsonl`. `null`: by the ending, which is `.csv`, `.csv.gz`, `.tsv` (set
    `sep: "\\t"`), `.parquet`, `.pq`, `.jsonl`, `.jsonl.gz` or `.ndjson`."""
    options: dict[str, Scalar | None] = {}
    """Keywords for the reader, which is pandas' `read_csv` or `read_json`, or pyarrow's
    `read_table`: `sep: ";"`, `decimal: ","`, `encoding: latin-1`. With `header: null` the columns
    are named `"0"`, `"1"`, and so on."""
    constants: dict[str, Scalar] = {}
    """Columns to add, with one value each, e.g. `color: red`."""
    sha256: str | None = Field(None, pattern=SHA256_PATTERN)
    """Digest of the file, for a single file. Any other content is refused."""


class Column(Section):
    """What one column must contain."""

    type: ColumnType = "double"
    """`double`, `integer`, `boolean`, `category`, `datetime` or `string`. The last two are no
    features."""
    min: float | None = None
    """Smallest value, for `double` and `integer`."""
    max: float | None = None
    """Largest value, for `double` and `integer`."""
    values: tuple[Scalar, ...] | None = None
    """The only values allowed. For a category, these are the ones that the model knows."""
    nullable: bool = False
    """Whether values may be missing. The target's may not."""

    @property
    def categories(self) -> tuple[str, ...] | None:
        """The `values` of a category as the table has them: text."""
        return None if self.values is None else tuple(map(text, self.values))


def text(value: Any) -> str:
    """A category's name; 3.0 is "3", as whole numbers beside a null are read as doubles."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class Drift(Section):
    """What to do if the columns of a source have changed."""

    new: Literal["reject", "ignore"] = "reject"
    """A column that the file does not name: `reject` the data, or `ignore` the column."""
    lost: Literal["reject", "fill"] = "reject"
    """A column that is missing: `reject` the data, or `fill` the column with nulls."""
    type: Literal["reject", "fill"] = "reject"
    """A column of which no value in a file has its type: `reject` the data, or `fill` the column
    with nulls. If other files of the source have good values, up to nine such values are bad rows
    instead."""


class Data(Section):
    """Where the table comes from and what it must look like."""

    sources: tuple[Source, ...] = Field(min_length=1)
    """The tables. They are concatenated, or passed to `prepare` one by one."""
    prepare: str | None = Field(None, pattern=FUNCTION_PATTERN)
    """`MODULE:FUNCTION`: your own function, in `MODULE.py` beside the pipeline file. It gets the
    list of tables and returns one table."""
    target: str
    """The column to predict."""
    task: Task
    """`regression` (a number), `binary` (two classes) or `multiclass` (several classes)."""
    columns: dict[str, Column] = Field(min_length=1)
    """Every column of the table, with what it must contain."""
    bad_rows: Literal["reject", "drop"] = "reject"
    """Rows that break the rules of their columns: `reject` ends the run, `drop` leaves them out.
    Both write a report, which `./mlops cat` shows."""
    drift: Drift = Drift()
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """How much a row counts in training, by its class: `balanced` (rare classes count as much as
    frequent ones), or a number for each label, which is in quotes: `{"0": 1, "1": 5}`."""


class Impute(Section):
    """How missing values are filled."""

    numeric: Literal["none", "mean", "median"] = "median"
    """Missing numbers: `median`, `mean`, or `none`, which leaves them to the model."""
    category: Literal["none", "most_frequent"] = "most_frequent"
    """Missing categories: `most_frequent` or `none`. A `null` in a request is one, whichever server
    answers it."""


class Features(Section):
    """Preparation inside the model, fitted on training rows only."""

    scale: Literal["none", "standard", "minmax"] = "none"
    """Numbers: `none`, `standard` (mean 0, deviation 1) or `minmax` (0 to 1)."""
    encode: Literal["onehot", "ordinal"] = "onehot"
    """Categories: `onehot` or `ordinal`."""
    impute: Impute = Impute()


class Split(Section):
    """Training, validation and test part."""

    method: Literal["hash", "time", "random"] = "hash"
    """`hash`: a hash decides for each unit, so a row never changes parts when data is added.
    `time`: the newest rows are the test part. `random`: a plain shuffle, to reproduce published
    figures."""
    test: float = Field(0.2, gt=0, lt=1)
    """Fraction of the units for the final test, above 0. `test` + `validation` must be below 1."""
    validation: float = Field(0.2, ge=0, lt=1)
    """Fraction of the units that trials are scored on. Must be `0` with folds."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the hash or the shuffle."""
    groups: tuple[str, ...] = ()
    """Columns that identify a unit (a patient, a customer), which never has rows in two parts. By
    default, rows with equal features are one unit, whatever their target."""
    column: str | None = None
    """The `datetime` column, for method `time` only."""
    stratify: bool = False
    """`true`: every part has the same share of each class, for method `random` and tasks with
    classes only. With `groups`, the size of a part is rounded to a fraction whose denominator is at
    most 20, so `test: 0.02` takes 5 %."""


class Folds(Section):
    """k-fold cross-validation in place of a validation part; no unit is in two folds."""

    folds: int = Field(ge=2, le=20)
    """Number of folds."""


class Search(Section):
    """The hyperparameter search."""

    algorithm: Algorithm = "tpe"
    """`tpe`, `random` or `grid` (the points of a finite space in order; trial 0 is the first)."""
    trials: int = Field(40, ge=1, le=MOST_TRIALS)
    """Points to evaluate, 1 to 10,000. By default a grid is evaluated whole. If the number leaves
    some of its points out, `check` and the log say so."""
    slots: int = Field(2, ge=1, le=64)
    """Trials that run in parallel, 1 to 64."""
    trial_timeout: float = Field(300, gt=0)
    """Seconds for one trial."""
    trial_memory: Annotated[str, Field(pattern=MEMORY_PATTERN)] | None = None
    """Memory for one trial, including libraries and data: `512m`, `4g`. A trial that exceeds it is
    ended and counts as `KILLED`; the search continues. `null`: the machine's memory less a reserve,
    divided by `slots`."""
    timeout: float | None = Field(None, gt=0)
    """Seconds for the whole search. `null`: no limit."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the points and the models."""
    resampling: Literal["holdout"] | Folds = "holdout"
    """What scores a trial: `holdout`, the validation part, or `folds: 5` (2 to 20), k-fold
    cross-validation on the training part. No unit is in two folds."""
    space: dict[str, Any]
    """What to try, in hyperopt's expressions."""
    points: tuple[dict[str, Any], ...] = ()
    """Parameters to try first, each written out in full, e.g. `{estimator: ridge, alpha: 1.0}`. In
    a grid they keep their places."""


class Metric(Section):
    """The metric that trials, selection and gate compare."""

    name: MetricName
    """The metric."""
    direction: Direction
    """`minimize` or `maximize`. May be left out, and must be the metric's own."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`metric: rmse` is enough: a metric's name implies its direction."""
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and "name" in value:
            return {"direction": DIRECTIONS.get(str(value["name"]), MINIMIZE), **value}
        return value


class Tuned(Section):
    """A threshold that is chosen on the validation part."""

    maximize: TunedMetric
    """The metric that the threshold maximizes."""


class Slices(Section):
    """Rows with equal values of a column. Each slice is compared with the champion."""

    by: str
    """A column of type `category`, `string`, `boolean` or `integer`, not the target. It need not be
    a feature. Each of its values is a slice; missing values are one, too."""
    metric: MetricName | None = None
    """The metric to compare. `null`: the pipeline's own."""
    max_worsening: float = Field(0.0, ge=0)
    """How much worse than the champion a slice may be, in the metric's unit."""
    min_rows: int = Field(50, ge=2)
    """A slice with fewer rows, or with fewer than 10 units (or than `min_rows`, if that is less),
    is not judged, and the decision says so."""


class Gate(Section):
    """What a challenger must show before it is promoted."""

    mode: GateMode = "enforce"
    """`enforce`: promote what passes. `dry_run`: record the decision, but promote in any case.
    `disabled`: promote without a decision."""
    thresholds: dict[str, float] = {}
    """Worst value allowed of a test metric, e.g. `rmse: 75`. For `r2` and other metrics to
    maximize, it is the smallest. Tasks with classes also have `calibration_error`."""
    slices: tuple[Slices, ...] = ()
    """Columns on each of whose values the challenger is compared with the champion."""
    model_size: str | None = Field(None, pattern=SIZE_PATTERN)
    """Largest total size of the model's files: `500k`, `50m`, `1g` (powers of 1,024 bytes)."""
    latency_ms: float | None = Field(None, gt=0)
    """Longest time for one prediction of the smoke test's rows, in milliseconds: the median of 15
    calls of the loaded model after a first one, in the gate's own process. A rough guard: it
    includes no server and no network, and a busy machine is slower."""
    min_improvement: float = Field(0.0, ge=0)
    """Smallest improvement over the champion, in the metric's unit."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Confidence of the one-sided interval of the improvement, above 0.5 and below 1."""
    min_rows: int = Field(30, ge=2)
    """Test rows that neither version was trained on. With fewer, or with rows of fewer than 10
    units (or than `min_rows`, if that is less), the decision is `inconclusive`."""
    resamples: int = Field(2000, ge=200, le=100_000)
    """Resamples of the paired bootstrap behind the interval, 200 to 100,000."""
    seed: int = Field(0, ge=0)
    """Seed of the bootstrap."""

    @property
    def model_bytes(self) -> int | None:
        """`model_size` as a number."""
        if self.model_size is None:
            return None
        return int(self.model_size[:-1]) << 10 * (1 + "kmg".index(self.model_size[-1]))


class Serving(Section):
    """The endpoint."""

    target: Literal["process", "docker"] | None = None
    """What runs the server: `process`, supervised on this machine, or `docker`, a container, the
    only choice on the compose stack. `null`: the stack's own (`MLOPS_TARGET`)."""
    builder: Builder = "mlops"
    """`mlops`: our image and scoring server. `mlflow`: the image that `mlflow models build-docker`
    makes, with MLflow's server."""
    probabilities: bool = False
    """For classes: whether an answer has, beside `predictions`, the `classes` and their
    `probabilities`, one list per row in the order of the classes."""
    replicas: int = Field(1, ge=1, le=12)
    """Containers that share the requests, at most 12."""
    cpus: float = Field(1.0, ge=0.1, le=1024)
    """Processors for each container."""
    memory: Annotated[str, Field(pattern=MEMORY_PATTERN)] = "1g"
    """Memory for each container, without swap: `512m`, `2g`, at least `64m`. A server that exceeds
    it is killed and started again."""
    environment: dict[Annotated[str, Field(pattern=VARIABLE_PATTERN)], str] = {}
    """Variables of the server, as text. No secrets: whoever reaches the engine can read them."""
    labels: dict[Annotated[str, Field(pattern=LABEL_PATTERN)], str] = {}
    """Labels to find the containers by: text under names of letters, digits, `_` and `-`."""
    keep: int = Field(2, ge=0, le=100)
    """Images of earlier versions to keep for a rollback. One that is gone is built again."""
    start_timeout: float = Field(60, gt=0)
    """Seconds until the server must answer."""
    drain_timeout: float = Field(30, ge=0)
    """Seconds that an old server may take to finish its requests."""


class Pipeline(Section):
    """One registered model: its data, search, gate and serving."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """The file's name without `.yaml`, which is also the registered model's: at most 63 characters,
    a letter first. May be left out."""
    description: str
    """What the model is for, in a sentence."""
    owner: str
    """Who is responsible for it."""
    tags: dict[str, str] = {}
    """Tags of your own, to find the pipeline by: text (numbers in quotes). Names that the chain
    itself sets, such as `snapshot` or `git_commit`, and names that begin with `mlops.` or `mlflow.`
    are refused."""
    schedule: str | None = None
    """When to train: a cron expression of five fields (UTC), `"@hourly"`, `"@daily"`, `"@weekly"`,
    `"@monthly"`, `"@quarterly"` or `"@yearly"`, in quotes. `null`: only by hand."""
    data: Data
    features: Features = Features()
    split: Split = Split()
    search: Search
    metric: Metric
    threshold: Annotated[float, Field(gt=0, lt=1)] | Tuned = 0.5
    """Probability from which a row is assigned to the greater of two classes."""
    rounded: bool = False
    """For a regression: `true` rounds predictions to whole numbers, for targets that are counts or
    scores. It helps `mae`, whose best prediction is a median, and hurts `rmse`."""
    gate: Gate = Gate()
    serving: Serving = Serving()

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
        """The columns that would be features if they were not text or times."""
        return tuple(
            name for name in self._possible_features if self.data.columns[name].type in NO_FEATURES
        )

    @property
    def _possible_features(self) -> list[str]:
        apart = {self.data.target, self.split.column, *self.split.groups}
        return [name for name in self.data.columns if name not in apart]
