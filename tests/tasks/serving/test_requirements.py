from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from tasks.serving.targets import requirements
from tasks.serving.targets.requirements import Requirements


def collect(folder: Path, *lines: str) -> Requirements:
    (folder / "requirements.txt").write_text("\n".join(lines))
    return requirements.collect(folder)


def test_the_models_pins_and_the_servers(tmp_path: Path) -> None:
    packages = collect(
        tmp_path, f"mlflow=={version('mlflow')}", "scikit-learn==1.0.1", "numpy==1.26.4"
    )
    required, pins = packages.required.splitlines(), packages.pins.splitlines()
    assert {"scikit-learn==1.0.1", "numpy==1.26.4"} <= set(required)
    assert f"uvicorn=={version('uvicorn')}" in required
    assert [line for line in required if line.startswith("numpy")] == ["numpy==1.26.4"]
    # Their own requirements are pinned too: here joblib, which scikit-learn needs.
    assert f"joblib=={version('joblib')}" in pins
    names = {line.partition("==")[0] for line in required}
    assert not {line.partition("==")[0] for line in pins} & names


def test_what_the_model_does_not_pin_is_as_it_is_here(tmp_path: Path) -> None:
    packages = collect(tmp_path, "scikit-learn", "skops>=0.1  # a comment", "", "# another")
    assert {"scikit-learn", "skops>=0.1  # a comment"} <= set(packages.required.splitlines())
    assert f"scikit-learn=={version('scikit-learn')}" in packages.pins.splitlines()
    assert "another" not in packages.required


def test_mlflow_comes_without_its_tracking_server(tmp_path: Path) -> None:
    packages = collect(tmp_path, "mlflow==3.0.0")
    assert "mlflow-skinny==3.0.0" in packages.required.splitlines()
    everything = packages.required + packages.pins
    assert "\nmlflow==" not in everything
    for unwanted in ("alembic", "docker", "flask", "apache-airflow", "tensorflow", "hyperopt"):
        assert f"\n{unwanted}==" not in everything


def test_an_unknown_package_and_an_option_are_passed_on(tmp_path: Path) -> None:
    packages = collect(
        tmp_path, "--extra-index-url https://example.com/simple", "not-here-xyz==1.2"
    )
    assert {"--extra-index-url https://example.com/simple", "not-here-xyz==1.2"} <= set(
        packages.required.splitlines()
    )


def test_the_order_of_the_models_lines_does_not_matter(tmp_path: Path) -> None:
    assert collect(tmp_path, "skops", "pandas") == collect(tmp_path, "pandas", "skops")
