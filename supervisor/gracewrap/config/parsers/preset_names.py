"""The names of the presets: what each is for, and what is lost without it."""

from __future__ import annotations

from gracewrap.config.closest_name import close_to
from gracewrap.config.values import BadValue

# What each is for, and what is lost without it; "": nothing is, or it depends on the program.
PRESETS = {
    "any-http-server": (
        "any HTTP server, also one without shutdown code",
        "SIGTERM cuts the requests in flight, unless it handles SIGTERM itself",
    ),
    "bullmq": (
        "BullMQ workers, with shutdown code or without",
        "SIGTERM cuts the running jobs, unless the worker handles it",
    ),
    "celery": ("Celery workers", "tasks that take longer than the budget are killed"),
    "docker-default": ("what Docker and Compose grant: 10 s", ""),
    "dramatiq": ("Dramatiq workers", "a second SIGTERM loses the running jobs"),
    "envoy": ("Envoy", "SIGTERM cuts the requests in flight"),
    "gunicorn": ("gunicorn", "the log does not show how many requests are in flight"),
    "haproxy": ("HAProxy", "SIGTERM cuts the requests in flight"),
    "httpd": ("Apache httpd", "SIGTERM cuts the requests in flight"),
    "hypercorn": ("Hypercorn", "the log does not show how many requests are in flight"),
    "kubernetes-default": ("what Kubernetes grants: 30 s", ""),
    "nginx": ("nginx", "SIGTERM cuts the requests in flight"),
    "node": (
        "Node.js servers, with shutdown code or without",
        "SIGTERM cuts the requests in flight, unless it handles SIGTERM itself; and then a "
        "connection that is kept alive may hold the stop",
    ),
    "npm": (
        "npm, yarn, pnpm and npx, which start a Node.js server",
        "SIGTERM cuts the requests in flight, and a stop that went well ends with status 143",
    ),
    "php-fpm": ("php-fpm", "SIGTERM cuts the requests in flight"),
    "postgres": ("PostgreSQL", "SIGTERM waits for the last client, until SIGKILL"),
    "puma": ("Puma", "a stop that went well ends with status 143"),
    "redis": ("Redis", ""),
    "rq": ("RQ workers", "a second SIGTERM loses the running job"),
    "sidekiq": ("Sidekiq", ""),
    "unicorn": ("unicorn", "SIGTERM cuts the requests in flight"),
    "uvicorn": ("uvicorn", "a stop that went well ends with status 143"),
    "uwsgi": ("uWSGI, which needs the hook in this file's command to stop on SIGTERM", ""),
    "vllm": ("vLLM", "SIGTERM aborts the requests in flight"),
}
# Files to start from, which cannot be a preset: they hold several programs, or what only your own
# program can know.
FILES = {
    "gunicorn-celery": "gunicorn and Celery, several programs",
    "nginx-php-fpm": "nginx and php-fpm, several programs",
    "stack": "a database, Redis, a migration, a web server and a worker",
    "web-worker": "a web server and a worker, several programs",
}


def name(raw: object) -> str:
    """Return the name of a preset."""
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in PRESETS:
        return word
    if word in FILES:
        raise BadValue(f"is a file to start from; write it with gracewrap init --for {word}")
    hint = close_to(word, PRESETS) if word else ""
    raise BadValue(f"no such preset{hint or '; gracewrap presets lists them'}")
