# syntax=docker/dockerfile:1
# The service for production: API workers, reconciler, migrations and the command line. It carries no store.
#   docker build -t flashsale .
#   docker run -e FLASHSALE_STORE_URL=… -e FLASHSALE_POSTGRES_URL=… -p 8080:8080 flashsale serve

ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# Dependencies first: they change less often than the code.
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN python -m venv /opt/flashsale \
    && /opt/flashsale/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/flashsale/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/flashsale/bin/python -m compileall -q /opt/flashsale/lib \
    && /opt/flashsale/bin/pip uninstall --yes pip

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="flashsale" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin flashsale
COPY --from=build /opt/flashsale /opt/flashsale
ENV PATH=/opt/flashsale/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLASHSALE_HTTP_HOST=0.0.0.0 \
    FLASHSALE_HTTP_PORT=8080
USER 10001
EXPOSE 8080
# Alive, not ready: a restart does not help against a store that is away. Ask /readyz to route traffic.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['FLASHSALE_HTTP_PORT']}/healthz\", timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["flashsale"]
CMD ["serve"]
