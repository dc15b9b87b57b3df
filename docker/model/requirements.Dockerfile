# The requirement layer of the models' images: all packages that a model and its server need. It is
# shared by every version with the same requirements, so a new version costs its own files only.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG PROJECT=mlops
# First, so that what a killed build leaves behind is known as ours.
LABEL mlops.project=${PROJECT}

ARG PYTHON=3.11
RUN test "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "${PYTHON}" \
    || { echo "The model needs a base image with Python ${PYTHON}: set MLOPS_BASE_IMAGE." >&2; exit 1; }

COPY requirements.txt pins.txt /opt/
# The launcher's version; a task that builds this image does not have the launcher.
ARG UV=0.13.8
# Compiled here, since a running container cannot write: uncompiled, every start would compile anew.
# The packages' own tests are a tenth of their size. uv leaves in the layer in which it came.
RUN pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
        --root-user-action=ignore --target /tmp/uv "uv==${UV}" \
    && python3 -m venv --without-pip /opt/venv \
    && /tmp/uv/bin/uv pip install --quiet --no-cache --link-mode copy --python /opt/venv/bin/python \
        --requirement /opt/requirements.txt --constraint /opt/pins.txt \
    && find /opt/venv -mindepth 5 -type d -name tests -prune -exec rm -rf {} + \
    && { /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib > /dev/null || true; } \
    && rm -rf /tmp/uv
