"""The pipeline as one DAG run uses it: resolved once, and the same for all of its tasks."""

from __future__ import annotations

from tasks.clients import store
from tasks.pipeline.schema import Pipeline


def write(pipeline: Pipeline) -> str:
    """Store the resolved pipeline under its digest; returns the URI."""
    body = pipeline.model_dump_json(indent=2).encode()
    uri = store.data_uri(f"pipelines/{pipeline.name}/{store.digest(body)[:16]}.json")
    store.put_bytes(uri, body)
    return uri


def read(uri: str) -> Pipeline:
    """The resolved pipeline of a DAG run."""
    return Pipeline.model_validate_json(store.get_bytes(uri))
