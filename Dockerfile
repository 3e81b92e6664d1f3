# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
WORKDIR /build
# For the one part that is in C; what is built here needs no compiler to run.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY requirements/build.txt ./
RUN pip install --no-cache-dir --require-hashes -r build.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src ./src
COPY precompute ./precompute
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

# The offline half: trains an artifact and publishes it. Run once, or on a schedule.
# PIP_EXTRA_INDEX_URL may name an index of CPU builds of torch; the default build is larger.
FROM python:3.11-slim AS precompute
ARG PIP_EXTRA_INDEX_URL
RUN useradd --system --uid 10001 --create-home recsvc && mkdir /data && chown recsvc /data
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/recsvc-*.whl)[precompute]"
USER 10001
ENV RECSVC_DATA_DIR=/data
VOLUME /data
WORKDIR /data
ENTRYPOINT ["precompute"]
CMD ["--help"]

# The serving half: no torch, and only what the lock file names, by hash. The last target, so
# `docker build .` makes this one.
FROM python:3.11-slim AS serve
RUN useradd --system --uid 10001 --create-home recsvc && mkdir /data && chown recsvc /data
COPY requirements/serve.txt /tmp/
RUN pip install --no-cache-dir --require-hashes -r /tmp/serve.txt && rm /tmp/serve.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/recsvc-*.whl && rm -rf /wheels
USER 10001
ENV RECSVC_HOST=0.0.0.0 RECSVC_PORT=8000 RECSVC_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"RECSVC_PORT\"]}/health/live', timeout=2)"]
ENTRYPOINT ["recsvc"]
CMD ["serve"]
