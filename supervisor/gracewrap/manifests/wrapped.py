"""Where gracewrap stands in a container's command, and which settings are in force there."""

from __future__ import annotations

import os
import re

from gracewrap.config import load
from gracewrap.config.command_line import CommandLine, read_command_line
from gracewrap.config.problems import CONFIG_VARIABLE
from gracewrap.config.schema import BY_KEY
from gracewrap.manifests.sleeps import SHELLS, split
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gracewrap.config.origins import RawValue
    from gracewrap.config.problems import Problem
    from gracewrap.config.settings import Settings
    from gracewrap.manifests.model import Container
    from gracewrap.manifests.parse_text import Node

NAME = "gracewrap"
# Containers that do not run the application: proxies, agents.
SIDECARS = re.compile(
    r"(^|-)(istio-?proxy|proxyv2|envoy|linkerd2?-proxy|cloud-?sql-?(auth-)?proxy|daprd|fluent-?bit"
    r"|fluentd|vault-agent|vault|consul-dataplane|aws-xray-daemon|xray|datadog-agent|aws-appmesh-envoy"
    r"|aws-otel-collector|otel-collector|opentelemetry-collector|firelens|log[_-]?router|pgbouncer"
    r"|alloy|promtail|filebeat|vector)(-(contrib|sidecar|agent|proxy|init|k8s|debug))?$"
)


# What a platform fills in: $(NAME) in Kubernetes, ${NAME} in Nomad and CloudFormation.
_FILLED_IN = re.compile(r"(?<!\$)\$[({]")
_OPEN = re.compile(r"\$[\w({]")  # what a shell, or Compose, fills in
# What may stand between exec and gracewrap: options, variables, and what becomes its command.
_BECOMES = re.compile(
    r"-.*|\w+=.*|(.*/)?(env|su-exec|gosu|setpriv|chpst|nice|ionice|stdbuf|tini|dumb-init|catatonit)"
)
# What runs beside an application, and comes from images of its own.
SERVERS = re.compile(
    r"^(postgres(ql)?|postgis|mysql|mariadb|redis(-stack)?|valkey|mongo(db)?|rabbitmq|memcached|nginx"
    r"|traefik|haproxy|caddy|elasticsearch|opensearch|kibana|kafka|zookeeper|nats|minio|mailhog|mailpit"
    r"|prometheus|grafana|jaeger|adminer|pgadmin4?|vault|consul|etcd|localstack|keycloak|clickhouse.*)$"
)


class Wrapped(Record):
    """How a container runs gracewrap."""

    how: str  # "argv", "shell" (in a shell's text), "presumed" (by the image), or "absent"
    words: tuple[str, ...] = ()  # those after gracewrap
    nodes: tuple[Node, ...] = ()  # of these words, where each has one of its own
    node: Node | None = None  # the command
    before: tuple[str, ...] = ()  # what stands before gracewrap
    execs: bool = False  # the shell replaces itself


class Effective(Record):
    """The settings in force in a container, or what keeps them from being known."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    config: str | None  # the file that was read
    unseen: str | None  # the file that the container names, and which was not
    line: CommandLine  # the words that a run would have, with those of the check
    env: Mapping[bytes, bytes]  # as far as it is known
    unused: tuple[RawValue, ...] = ()  # options of the check that the container does not have
    later: frozenset[str] = frozenset()  # settings whose values are filled in when it runs

    @property
    def given(self) -> tuple[str, ...]:
        """The settings that words say."""
        return tuple(one.key for one in self.line.given)

    def with_values(self, values: Mapping[str, str]) -> Settings | None:
        """Return the settings with some that are other than now; None: a run would refuse them."""
        words = [word for key, value in values.items() for word in (BY_KEY[key].option, value)]
        others = [one for one in self.line.given if one.key not in values]
        given = (*others, *read_command_line(words).given)
        return load.resolve(replace(self.line, given=given), self.env, needs_command=False)[0]


def wrapped(container: Container) -> Wrapped:
    """Return how a container runs gracewrap; one that replaces no entrypoint is presumed to."""
    command = _nodes(container, container.command)
    args = _nodes(container, container.args)
    found = _within(command + args if command else args)
    if found is not None:
        return found
    if command:
        return Wrapped("absent", node=container.command)
    words = tuple(text for text, _ in args)
    nodes = tuple(node for _, node in args)
    options = words[:1] and words[0].startswith("-") and "--" not in words
    if options:  # of the command that the image starts
        return Wrapped("presumed", node=container.args)
    return Wrapped("presumed", words, nodes, container.args)


def _nodes(container: Container, node: Node | None) -> list[tuple[str, Node]]:
    """Return a command's words; a string is one for Nomad, and split as a shell does by Compose."""
    if node is None:
        return []
    if node.kind == "list":
        return [(one.text, one) for one in node.items]
    if container.platform == "compose":
        return [(word, node) for word in split(node.text)]
    return [(node.text, node)] if node.text else []


def _within(words: list[tuple[str, Node]]) -> Wrapped | None:
    texts = [text for text, _ in words]
    for at, (text, node) in enumerate(words[:8]):
        if os.path.basename(text) == NAME or (text == NAME and texts[at - 1 : at] == ["-m"]):
            rest = words[at + 1 :]
            return Wrapped("argv", tuple(one for one, _ in rest), tuple(one for _, one in rest),
                           node, tuple(texts[:at]))  # fmt: skip
    is_shell = texts and os.path.basename(texts[0]) in SHELLS
    script = next((text for text in texts[1:] if not text.startswith("-")), "")
    inner = split(script) if is_shell else []
    at = next((n for n, word in enumerate(inner) if os.path.basename(word) == NAME), -1)
    if at < 0:
        return None
    node = next(node for text, node in words if text == script)
    before, after = tuple(inner[:at]), tuple(inner[at + 1 :])
    return Wrapped("shell", after, (), node, before, _execs(before))


def _execs(before: tuple[str, ...]) -> bool:
    """Return whether a shell replaces itself, by the words before gracewrap."""
    if "exec" not in before:
        return False
    last = len(before) - before[::-1].index("exec")
    between, known = before[last:], False
    for n, word in enumerate(between):
        # The word after `su-exec`, or after an option, may be its value.
        if not _BECOMES.fullmatch(word) and not (n and known and re.fullmatch(r"[\w:.+-]+", word)):
            return False
        known = _BECOMES.fullmatch(word) is not None
    return True


def chosen(containers: Iterable[Container], names: Iterable[str]) -> list[Container]:
    """Return the containers to check: those named; else those whose command says gracewrap, and
    those that have variables for one that their image starts; else those whose image may."""
    containers, names = tuple(containers), set(names)
    if names:
        return [one for one in containers if one.name in names]
    known = [(one, wrapped(one).how) for one in containers]
    presumed = [
        one
        for one, how in known
        if how == "presumed"
        and not is_sidecar(one.name, one.image)
        and not SERVERS.match(_of_image(one.image))
    ]
    said = [one for one, how in known if how in ("argv", "shell")]
    if not said:
        return presumed
    # Who writes a variable for gracewrap says that the image starts it.
    return said + [
        one for one in presumed if any(name.startswith("GRACEWRAP_") for name in one.env)
    ]


def is_sidecar(name: str, image: str) -> bool:
    """Return whether a container is a proxy or an agent beside an application."""
    return bool(SIDECARS.search(name) or SIDECARS.search(_of_image(image)))


def _of_image(image: str) -> str:
    """Return the last part of an image's name: reg:5000/fluent/fluent-bit:3.1 is fluent-bit."""
    return re.split("[:@]", image.rpartition("/")[2])[0]


def effective(container: Container, line: CommandLine, default: str | None) -> Effective:
    """Return the settings in force in a container.

    Args:
        container: Its command and its environment count.
        line: What `gracewrap check` was given: its --config stands for the file that the container
            names; its options count where the container's command is the image's.
        default: The file to read where nothing names one.
    """
    how = wrapped(container)
    own, later = _own(container, how)
    said = {name: _filled(container, node.text) if node is not None else None
            for name, node in container.env.items()}  # fmt: skip
    env = {name.encode(): text.encode() for name, text in said.items()
           if text is not None and not _FILLED_IN.search(text)}  # fmt: skip
    later |= {
        key for key in BY_KEY if (name := BY_KEY[key].variable) in said and name.encode() not in env
    }
    later -= {one.key for one in own.given}
    named = own.config or env.pop(CONFIG_VARIABLE, b"").decode() or None
    if how.how == "presumed":
        # The image's ENTRYPOINT may be `gracewrap -- `: then these words are the command.
        command = own.command or line.command
        made = CommandLine((*line.given, *own.given), command, None, "run", ())
        unused: tuple[RawValue, ...] = ()
    else:
        given = {one.key: one.raw for one in own.given}
        unused = tuple(one for one in line.given if given.get(one.key) != one.raw)
        command = own.command if own.action == "run" else (own.action, *own.command)
        made = CommandLine(own.given, command, None, "run", own.problems)
    config = line.config or (default if _same_file(named, default) else None)
    if config is None and named is None and how.how == "presumed" and not command:
        config = default
    made = CommandLine(made.given, made.command, config, "run", made.problems)
    settings, problems = load.resolve(made, env, needs_command=False)
    unseen = named if named and config is None else None
    return Effective(settings, tuple(problems), config, unseen, made, env, unused, frozenset(later))


def _own(container: Container, how: Wrapped) -> tuple[CommandLine, set[str]]:
    """Return the options in a container's words, and the settings whose values are not there."""
    own = read_command_line([_filled(container, word) for word in how.words])
    pattern = _OPEN if how.how == "shell" or container.platform == "compose" else _FILLED_IN
    later = {one.key for one in own.given if pattern.search(str(one.raw))}
    return replace(own, given=tuple(one for one in own.given if one.key not in later)), later


def _filled(container: Container, word: str) -> str:
    """Return a word with the variables in it whose values the manifest says."""

    def value(found: re.Match[str]) -> str:
        node = container.env.get(found[1])
        return node.text if node is not None else found[0]

    if container.platform == "kubernetes":
        return re.sub(r"(?<!\$)\$\(([\w.-]+)\)", value, word)
    if container.platform == "compose":
        return re.sub(r"(?<!\$)\$\{\w+:?-([^${}]*)\}", r"\1", word)
    return word


def _same_file(named: str | None, default: str | None) -> bool:
    return bool(named and default and os.path.basename(named) == os.path.basename(default))
