"""Time to build the DAGs of 50 pipeline files in a new process, like the DAG processor.

The imports of Airflow itself do not count, because every DAG file needs them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.base.settings import REPOSITORY

FILES = 50
CODE = f"""
import sys, time
sys.path[:0] = [{str(REPOSITORY / "dags")!r}, {str(REPOSITORY / "plugins")!r}]
import airflow.sdk, airflow.plugins_manager, airflow.providers.standard.operators.python, pendulum
airflow.sdk.DAG, airflow.sdk.Asset, airflow.sdk.AssetOrTimeSchedule, airflow.sdk.BaseOperatorLink
begin = time.perf_counter()
import train, deploy
print(time.perf_counter() - begin)
"""


def main() -> None:
    """Print the median of five."""
    example = (REPOSITORY / "pipelines" / "diabetes_progression.yaml").read_text()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pipelines"
        folder.mkdir()
        for number in range(FILES):
            (folder / f"model_{number:02}.yaml").write_text(example)
        environment = os.environ | {
            "MLOPS_PIPELINES": str(folder),
            "AIRFLOW_HOME": temporary,
            "PYTHONPATH": str(REPOSITORY),
        }
        seconds = statistics.median(_seconds(environment) for _ in range(5))
    print(f"| {FILES} pipeline files, both DAGs of each | median of 5 |\n|---|---|")
    print(f"| imports of the project, parsing, building | {seconds:.2f} s |")


def _seconds(environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
