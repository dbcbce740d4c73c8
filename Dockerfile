# An example service with gracewrap as its ENTRYPOINT.  Build:  docker build -t slow-server .
# Another base with Python 3.11 or newer:                     docker build --build-arg BASE_IMAGE=python:3.13-alpine .
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY supervisor supervisor
RUN python3 -m venv /opt/gracewrap && /opt/gracewrap/bin/pip install --no-cache-dir .

FROM ${BASE_IMAGE} AS service
COPY --from=build /opt/gracewrap /opt/gracewrap
ENV PATH=/opt/gracewrap/bin:$PATH
COPY examples/slow_server.py /srv/slow_server.py
USER 10001:10001
EXPOSE 8080
# Docker waits 10 s after `docker stop`, then kills: stay below that (or raise it with docker run --stop-timeout).
ENV GRACEWRAP_SHUTDOWN_TIMEOUT=8s
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/', timeout=2)"]
ENTRYPOINT ["gracewrap", "--"]
CMD ["python3", "-u", "/srv/slow_server.py"]
