from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from tasks.serving.targets import requirements
from tasks.serving.targets.requirements import Requirements


def needed(folder: Path, *lines: str) -> Requirements:
    (folder / "requirements.txt").write_text("\n".join(lines))
    return requirements.collect(folder)


def test_the_models_pins_and_the_servers(tmp_path: Path) -> None:
    found = needed(tmp_path, f"mlflow=={version('mlflow')}", "scikit-learn==1.0.1", "numpy==1.26.4")
    wanted, pins = found.required.splitlines(), found.pins.splitlines()
    assert {"scikit-learn==1.0.1", "numpy==1.26.4"} <= set(wanted)
    assert f"uvicorn=={version('uvicorn')}" in wanted
    assert [line for line in wanted if line.startswith("numpy")] == ["numpy==1.26.4"]
    # Pinned are also those that come with them, by nobody's wish: here joblib with scikit-learn.
    assert f"joblib=={version('joblib')}" in pins
    given = {line.partition("==")[0] for line in wanted}
    assert not {line.partition("==")[0] for line in pins} & given


def test_what_the_model_does_not_pin_is_as_it_is_here(tmp_path: Path) -> None:
    found = needed(tmp_path, "scikit-learn", "skops>=0.1  # a comment", "", "# another")
    assert {"scikit-learn", "skops>=0.1  # a comment"} <= set(found.required.splitlines())
    assert f"scikit-learn=={version('scikit-learn')}" in found.pins.splitlines()
    assert "another" not in found.required


def test_mlflow_comes_without_its_tracking_server(tmp_path: Path) -> None:
    found = needed(tmp_path, "mlflow==3.0.0")
    assert "mlflow-skinny==3.0.0" in found.required.splitlines()
    everything = found.required + found.pins
    assert "\nmlflow==" not in everything
    for unwanted in ("alembic", "docker", "flask", "apache-airflow", "tensorflow", "hyperopt"):
        assert f"\n{unwanted}==" not in everything


def test_an_unknown_package_and_an_option_are_passed_on(tmp_path: Path) -> None:
    found = needed(tmp_path, "--extra-index-url https://example.com/simple", "not-here-xyz==1.2")
    assert {"--extra-index-url https://example.com/simple", "not-here-xyz==1.2"} <= set(
        found.required.splitlines()
    )


def test_the_order_of_the_models_lines_does_not_matter(tmp_path: Path) -> None:
    assert needed(tmp_path, "skops", "pandas") == needed(tmp_path, "pandas", "skops")
