# What tasks/serving/image.py adds to the Dockerfile that MLflow writes (serving.builder: mlflow): its
# server without nginx, which must be root, so that it runs under the same limits as ours.
ENV DISABLE_NGINX=true \
    HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_MODELS_WORKERS=1 \
    UVICORN_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/ping'); raise SystemExit(c.getresponse().status != 200)"]
