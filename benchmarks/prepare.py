"""Memory and time of `prepare` on a large table: `python -m benchmarks.prepare`.

The whole task in its own process, from a file next to the pipeline file to the snapshot in the
store and the parent run in MLflow. The stack is started in a temporary folder, which needs up to
3 GB. Memory is the high-water mark of the process, including libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import yaml

from benchmarks import machine
from tasks.stack.embedded import lifecycle, ports
from tasks.stack.embedded.home import Home

REPOSITORY = Path(__file__).resolve().parent.parent
ROWS, COLUMNS, CATEGORIES = 5_000_000, 20, 5
BLOCK = 250_000
CODE = """
import sys
from tasks.pipeline.overrides import Overrides
from tasks.prepare import prepare
prepare(sys.argv[1], "benchmark/" + sys.argv[1], Overrides())
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""
TABLES = (
    ("csv", 0, "doubles"),
    ("parquet", 0, "doubles"),
    ("csv", CATEGORIES, f"doubles, {CATEGORIES} of them categories"),
    ("parquet", CATEGORIES, f"doubles, {CATEGORIES} of them categories"),
    ("csv", -1, "doubles, and a text that differs in each row and defines the units"),
)
"""Format, number of categories or -1 for the text, and a description."""


def columns(categories: int) -> dict[str, dict[str, Any]]:
    """The columns of a table; the last one is the target."""
    texts = ["string"] if categories < 0 else ["category"] * categories
    kinds = texts + ["double"] * (COLUMNS - len(texts))
    return {f"x{number:02}": {"type": kind} for number, kind in enumerate(kinds)}


def write(path: Path, categories: int) -> None:
    """Write a table block by block; it is the same each time."""
    random = np.random.default_rng(0)
    kinds = columns(categories)
    types = {"category": pa.string(), "string": pa.string(), "double": pa.float64()}
    schema = pa.schema([(name, types[str(rules["type"])]) for name, rules in kinds.items()])
    writer = pyarrow.csv.CSVWriter if path.suffix == ".csv" else pyarrow.parquet.ParquetWriter
    labels = np.array([f"label {number}" for number in range(40)])
    with writer(path, schema) as file:
        for number in range(ROWS // BLOCK):
            if categories < 0:
                labels = np.array([f"unit {number * BLOCK + row}" for row in range(BLOCK)])
            blocks = [
                random.choice(labels, BLOCK, replace=categories > 0)
                if field.type == pa.string()
                else random.standard_normal(BLOCK).round(6)
                for field in schema
            ]
            file.write_table(pa.table(blocks, schema=schema))


def measure(folder: Path, ending: str, categories: int) -> tuple[float, float]:
    """Seconds and GB of memory for one table, whose file is removed afterwards."""
    name = f"{ending}_{abs(categories)}"
    kinds = columns(categories)
    file = folder / f"{name}.{ending}"
    write(file, categories)
    body = {
        "description": "a large table",
        "owner": "benchmarks",
        "data": {
            "sources": [{"uri": f"file://{file.name}"}],
            "target": list(kinds)[-1],
            "task": "regression",
            "columns": kinds,
        },
        "split": {"groups": [name for name, rules in kinds.items() if rules["type"] == "string"]},
        "search": {"space": {"estimator": "linear"}},
        "metric": "rmse",
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    began = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", CODE, name],
        cwd=REPOSITORY,
        env=os.environ | {"MLOPS_PIPELINES": str(folder), "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - began
    file.unlink()
    return seconds, int(result.stdout.split()[-1]) * 1024 / 1e9


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="mlops-benchmark-") as temporary:
        folder = Path(temporary) / "pipelines"
        folder.mkdir()
        os.environ["MLOPS_HOME"] = str(Path(temporary) / "home")
        home = Home(Path(os.environ["MLOPS_HOME"]))
        home.create()
        ports.save(home, ports.Ports(*(ports.unused() for _ in range(5))))
        try:
            lifecycle.start(only=("postgres", "store", "mlflow"))
            print(f"{machine.describe()}\n")
            print(
                "| file | rows x columns | columns | time | peak memory |\n|---|---|---|---:|---:|"
            )
            for ending, categories, description in TABLES:
                seconds, memory = measure(folder, ending, categories)
                size = f"{ROWS:,} x {COLUMNS}"
                print(
                    f"| {ending} | {size} | {description} | {seconds:.0f} s | {memory:.2f} GB |",
                    flush=True,
                )
        finally:
            lifecycle.down(wipe=True)


if __name__ == "__main__":
    main()
