# The server in a small image without compilers, run by a user without rights.
#
#   docker build -t serving .
#   docker run --rm -p 127.0.0.1:1500:1500 -p 127.0.0.1:5500:5500 -v "$PWD/servables:/models:ro" serving
#
# For NVIDIA GPUs and Ascend devices it is built on their vendors' images, which bring the engine;
# the versions must suit the driver of the machine:
#
#   docker build --build-arg DEVICE=gpu -t serving:gpu .          then: docker run --gpus all ...
#   docker build --build-arg DEVICE=ascend -t serving:ascend .    then: docker run --runtime ascend ...

ARG DEVICE=cpu
ARG TENSORRT_IMAGE=nvcr.io/nvidia/tensorrt:25.09-py3
ARG CANN_IMAGE=quay.io/ascend/cann:8.5.0-910b-ubuntu22.04-py3.11

FROM python:3.12-slim AS cpu

FROM ${TENSORRT_IMAGE} AS gpu
ENV EXTRAS=[gpu] \
    SERVING_DEVICES=cpu,gpu

# pyACL and atc are found through variables, which bash reads from this file when it starts.
FROM ${CANN_IMAGE} AS ascend
ENV BASH_ENV=/usr/local/Ascend/ascend-toolkit/set_env.sh \
    SERVING_DEVICES=cpu,ascend

# The packages of an engine are the image's own: --system-site-packages.
FROM ${DEVICE} AS build
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY serving ./serving
RUN python3 -m venv --system-site-packages /opt/serving \
    && /opt/serving/bin/pip install --no-cache-dir ".${EXTRAS}"

FROM ${DEVICE}
# By this locale scikit-learn's text models change the case of words.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends locales \
    && localedef -i en_US -f UTF-8 en_US.UTF-8 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home --home-dir /cache serving
COPY --from=build /opt/serving /opt/serving

# Inside a container 127.0.0.1 is reached by nobody else, so here the server listens on all of the
# container's addresses. Who may reach those is decided by `docker run -p`, or by the cluster.
ENV PATH=/opt/serving/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SERVING_HOST=0.0.0.0 \
    SERVING_MODEL_DIR=/models \
    SERVING_CACHE_DIR=/cache \
    SERVING_LOG_FORMAT=json

USER 10001
WORKDIR /models
VOLUME /cache
EXPOSE 1500 5500

# Live, not ready: a container is not to be replaced because a model takes long to load.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('SERVING_REST_PORT', '1500') + '/v2/health/live', timeout=4)"]

STOPSIGNAL SIGTERM
# By way of bash for the sake of BASH_ENV alone; the server takes its place.
ENTRYPOINT ["/bin/bash", "-c", "exec serving \"$@\"", "serving"]
CMD ["start"]
