# The requirement layer of the models' images: all packages that a model and its server need.
# Versions with the same requirements share it, so a new version costs only its own files.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG PROJECT=mlops
# First: it marks what a killed build leaves behind as ours.
LABEL mlops.project=${PROJECT}

ARG PYTHON=3.11
RUN test "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "${PYTHON}" \
    || { echo "The model needs a base image with Python ${PYTHON}: set MLOPS_BASE_IMAGE." >&2; exit 1; }

COPY requirements.txt pins.txt /opt/
# The launcher's version; a task that builds this image does not have the launcher.
ARG UV=0.13.8
# Compiled here: a running container cannot write, so every start would compile again. The packages'
# own tests are a tenth of their size. uv is removed in the layer that installed it.
RUN pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
        --root-user-action=ignore --target /tmp/uv "uv==${UV}" \
    && python3 -m venv --without-pip /opt/venv \
    && /tmp/uv/bin/uv pip install --quiet --no-cache --link-mode copy --python /opt/venv/bin/python \
        --requirement /opt/requirements.txt --constraint /opt/pins.txt \
    && find /opt/venv -mindepth 5 -type d -name tests -prune -exec rm -rf {} + \
    && { /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib > /dev/null || true; } \
    && rm -rf /tmp/uv
