from __future__ import annotations

import subprocess
import sys

from tasks.base.settings import REPOSITORY


def test_progress_needs_no_ml_library() -> None:
    """The command line shows it while it waits: it must be there at once."""
    code = (
        "import sys, tasks.search, tasks.records.trials.progress;"
        "print([m for m in ('mlflow', 'sklearn', 'hyperopt', 'pandas', 'numpy', 'boto3')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
