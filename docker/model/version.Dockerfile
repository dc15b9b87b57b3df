# One version of a model: its requirement layer, the scoring server, its files.
# tasks/serving/targets/image.py sends the context and adds the last lines: CMD, with the model's
# name and version, and LABEL.
ARG BASE=mlops/base
FROM ${BASE}

COPY app /app
RUN ["/opt/venv/bin/python", "-m", "compileall", "-q", "/app"]

ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1 \
    TF_NUM_INTEROP_THREADS=1 \
    TF_NUM_INTRAOP_THREADS=1
WORKDIR /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/ping'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "tasks.serving.server", "--host", "0.0.0.0", "--port", "8080", "--model", "/model"]

# Everything above is the same for every version, so it is built once.
COPY model /model
