"""Time to build the DAGs of 50 pipeline files in a new process, as the DAG processor does.

Printed without the imports of Airflow itself, which any DAG file pays.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = 50
CODE = """
import sys, time
sys.path[:0] = [{dags!r}, {plugins!r}]
import airflow.sdk, airflow.plugins_manager, airflow.providers.standard.operators.python, pendulum
airflow.sdk.DAG, airflow.sdk.Asset, airflow.sdk.AssetOrTimeSchedule, airflow.sdk.BaseOperatorLink
begin = time.perf_counter()
import train, deploy
print(time.perf_counter() - begin, sum("__" in name for name in [*vars(train), *vars(deploy)]))
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
        code = CODE.format(dags=str(REPOSITORY / "dags"), plugins=str(REPOSITORY / "plugins"))
        times = sorted(
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                .stdout.splitlines()[-1]
                .split()[0]
            )
            for _ in range(5)
        )
    print(f"| {FILES} pipeline files, both DAGs of each | median of 5 |\n|---|---|")
    print(f"| imports of ours, parsing, building | {times[2]:.2f} s |")


if __name__ == "__main__":
    main()
