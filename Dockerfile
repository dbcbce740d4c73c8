# An example service with gracewrap as PID 1.  Try it:
#
#   docker build -t slow-server .
#   docker run -d --name slow -p 8080:8080 slow-server; sleep 2
#   curl 'localhost:8080/slow?s=5' & sleep 1; docker stop slow; docker logs slow
#
# Any base with Python 3.11 or newer will do: docker build --build-arg BASE_IMAGE=python:3.13-alpine -t slow-server .
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY supervisor supervisor
COPY launcher launcher
COPY configs configs
# --no-deps: to wrap a command gracewrap needs Python alone, h11 for what speaks HTTP, and rich for `gracewrap status --watch`.
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir --no-deps --target=/opt/gracewrap . h11 rich

FROM ${BASE_IMAGE} AS service
COPY --from=build /opt/gracewrap /opt/gracewrap
# For `docker exec slow gracewrap status`.
RUN printf '#!/bin/sh\nexec python3 -I -S /opt/gracewrap/gracewrap/__main__.py "$@"\n' >/usr/local/bin/gracewrap \
    && chmod 755 /usr/local/bin/gracewrap
COPY examples/slow_server.py /srv/slow_server.py
USER 10001:10001
ENV PORT=8080
EXPOSE 8080
# `docker stop` waits 10 s, then kills: stay below that, or raise it with docker run --stop-timeout.
ENV GRACEWRAP_SHUTDOWN_TIMEOUT=8s
# What HEALTHCHECK is about: a URL that answers 200.  Without it a server that hangs stays healthy.
ENV GRACEWRAP_READY=http://127.0.0.1:8080/
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["gracewrap", "health"]
# Not pip's `gracewrap` script: the kernel keeps a stop signal from PID 1 until Python has blocked it, which is some milliseconds
# sooner with -I -S.  Not `sh -c` either: a shell would add variables of its own to the environment.
ENTRYPOINT ["python3", "-I", "-S", "/opt/gracewrap/gracewrap/__main__.py", "--"]
CMD ["python3", "-u", "/srv/slow_server.py"]
