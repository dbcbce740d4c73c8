"""Containers of Kubernetes' manifests: of a Pod, and of all that has a template of one."""

from __future__ import annotations

from gracewrap.manifests.model import Container, Grace, PreStop, Probe, Rollout, Security
from gracewrap.manifests.sleeps import seconds_of
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gracewrap.manifests.parse_text import File, Node

    Maps = Mapping[str, Node | None]  # the data of config maps by their names

_TEMPLATE = ("spec", "template")
# Where the template of a Pod stands; Rollout is Argo's, DeploymentConfig OpenShift's.
TEMPLATES = {
    "Pod": (),
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "ReplicationController": _TEMPLATE,
    "Rollout": _TEMPLATE,
    "DeploymentConfig": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}
GRACE, DEFAULT_GRACE = "terminationGracePeriodSeconds", 30.0
RESTARTS = {"Always": "always", "OnFailure": "on-failure"}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def objects(root: Node) -> Iterator[Node]:
    """Yield the objects of a document; those of a List one by one."""
    kind = root.string("kind") or ""
    if kind.endswith("List") and (items := root.get("items")) is not None:
        for item in items.items:
            yield from objects(_typed(item, root))
    elif kind and root.string("apiVersion"):
        yield root


def _typed(item: Node, root: Node) -> Node:
    """Return an item of a list with its kind, which the API leaves out in a PodList."""
    (kind, value), version = root.pair("kind"), root.pair("apiVersion")
    if item.kind != "map" or item.get("kind") is not None or kind is None or value is None:
        return item
    one, made = value.copy(), item.copy()
    one.text = value.text.removesuffix("List")
    made.pairs = [*item.pairs, (kind, one)]
    if version[0] is not None and version[1] is not None and item.get("apiVersion") is None:
        made.pairs.append((version[0], version[1]))
    return made


def unread(found: Iterable[Node]) -> Iterator[Node]:
    """Yield the objects that have containers and are of a kind that is not read: Knative's
    Service, and other custom resources."""
    for one in found:
        if one.string("kind") not in TEMPLATES and (
            one.get("spec", "template", "spec", "containers") is not None
        ):
            yield one


class Beside(Record):
    """The objects of all files that are checked together, which say more about a container."""

    places: Mapping[tuple[str, str], list[tuple[str, Node]]]  # by kind and namespace
    maps: Mapping[str, Maps]  # the config maps of each namespace

    def of(self, kind: str, like: Node) -> list[tuple[str, Node]]:
        """Return those of a kind in the namespace of an object, with the names of their files."""
        return self.places.get((kind, _namespace(like)), [])


class Around(Record):
    """What other objects say about all containers of a pod."""

    rollout: Rollout
    maps: Maps
    is_served: bool  # a Service sends clients to it


def beside(files: Iterable[File]) -> Beside:
    """Return the objects of these files."""
    places: dict[tuple[str, str], list[tuple[str, Node]]] = {}
    maps: dict[str, dict[str, Node | None]] = {}
    for file in files:
        for root in file.documents:
            for one in objects(root):
                place = (one.string("kind") or "", _namespace(one))
                places.setdefault(place, []).append((file.name, one))
                if place[0] == "ConfigMap":
                    maps.setdefault(place[1], {})[_name(one)] = one.get("data")
    return Beside(places, maps)


def _namespace(one: Node) -> str:
    return one.string("metadata", "namespace") or "default"


def containers(file: File, found: Iterable[Node], beside: Beside) -> Iterator[Container]:
    """Yield each container of these objects."""
    for one in found:
        kind = one.string("kind") or ""
        if kind not in TEMPLATES:
            continue
        template = one.get(*TEMPLATES[kind])
        pod = template.get("spec") if template is not None else None
        if template is not None and pod is not None and pod.kind == "map":
            around = Around(
                _rollout(one, template, beside),
                beside.maps.get(_namespace(one), {}),
                _is_served(one, template, beside),
            )
            yield from _of_pod(file, f"{kind} {_name(one)}", kind, pod, around)


def title(one: Node) -> str:
    """Return an object's kind and name."""
    return f"{one.string('kind')} {_name(one)}"


def _name(one: Node) -> str:
    return one.string("metadata", "name") or one.string("metadata", "generateName") or "(unnamed)"


def _is_served(one: Node, template: Node, beside: Beside) -> bool:
    """Return whether a Service sends clients to these pods."""
    labels = _labels(one if one.string("kind") == "Pod" else template)
    return any(
        wanted is not None and wanted.pairs and _has(labels, wanted)
        for _, service in beside.of("Service", one)
        for wanted in (service.get("spec", "selector"),)
    )


def _labels(one: Node) -> Mapping[str, Node]:
    found = one.get("metadata", "labels")
    return dict(found.mapping()) if found is not None else {}


def _has(labels: Mapping[str, Node], wanted: Node) -> bool:
    return all(key in labels and labels[key].text == value.text for key, value in wanted.mapping())


def _of_pod(file: File, workload: str, kind: str, pod: Node, around: Around) -> Iterator[Container]:
    regular = _items(pod.get("containers"))
    # A native sidecar is stopped after the others; every other init container has completed.
    sidecars = [one for one in _items(pod.get("initContainers"))
                if one.string("restartPolicy") == "Always"]  # fmt: skip
    for one in (*regular, *sidecars):
        others = tuple(
            (other.string("name") or "", other.string("image") or "", other)
            for other in regular
            if other is not one and one in regular
        )
        # Which of several a Service means is not said here.
        served = around.is_served and one in regular and len(regular) == 1
        yield _container(file, workload, kind, pod, one, others, around, served)


def _items(node: Node | None) -> list[Node]:
    return [one for one in node.items if one.kind == "map"] if node is not None else []


def _container(
    file: File,
    workload: str,
    kind: str,
    pod: Node,
    one: Node,
    others: tuple[tuple[str, str, Node], ...],
    around: Around,
    served: bool,
) -> Container:
    node = pod.pair(GRACE)[1]
    grace = pod.number(GRACE) if pod.get(GRACE) is not None else DEFAULT_GRACE
    ports = {port.string("name") or "": port.number("containerPort") for port in
             _items(one.get("ports"))}  # fmt: skip
    probes = {name: probe for name in PROBES if (probe := _probe(one, name, ports)) is not None}
    return Container(
        file=file,
        platform="kubernetes",
        workload=workload,
        name=one.string("name") or "(unnamed)",
        node=one,
        grace=Grace(grace, GRACE, node, pod),
        command=one.get("command"),
        args=one.get("args"),
        env=_env(one, around.maps),
        env_node=one.get("env"),
        pre_stop=_pre_stop(one),
        stop_signal=one.get("lifecycle", "stopSignal"),
        shared_pid=_said(pod, "shareProcessNamespace"),
        host_pid=_said(pod, "hostPID"),
        probes=probes,
        serves=_serves(one, bool(ports), probes, served),
        ports=_ports(one),
        security=_security(pod, one),
        termination_path=one.get("terminationMessagePath"),
        restart=pod.pair("restartPolicy")[0],
        restart_word=RESTARTS.get(pod.string("restartPolicy") or "Always", ""),
        batch=kind in ("Job", "CronJob"),
        neighbours=others,
        rollout=around.rollout,
        image=one.string("image") or "",
    )


def _serves(one: Node, has_ports: bool, probes: Mapping[str, Probe], served: bool) -> Node | None:
    """Return the key that says that the container serves requests; None: there is none."""
    if has_ports:
        return one.pair("ports")[0]
    readiness = probes.get("readinessProbe")
    if readiness is not None and readiness.how != "exec":
        return one.pair("readinessProbe")[0]
    return one.pair("name")[0] if served else None


def _ports(one: Node) -> frozenset[int]:
    found = (port.number("containerPort") for port in _items(one.get("ports")))
    return frozenset(int(port) for port in found if port is not None)


def _said(holder: Node, key: str) -> Node | None:
    """Return the node of a key that is true."""
    return holder.pair(key)[0] if holder.truth(key) else None


def _env(one: Node, maps: Maps) -> Mapping[str, Node | None]:
    """Return the variables; also those of config maps that are checked as well."""
    found: dict[str, Node | None] = {}
    for item in _items(one.get("envFrom")):
        prefix = item.string("prefix") or ""
        data = maps.get(item.string("configMapRef", "name") or "")
        for name, value in data.mapping() if data is not None else ():
            found[prefix + name] = value
    for item in _items(one.get("env")):
        if name := item.string("name") or "":
            found[name] = item.get("value")
            reference = item.get("valueFrom", "configMapKeyRef")
            data = maps.get(reference.string("name") or "") if reference is not None else None
            if data is not None and reference is not None:
                found[name] = data.get(reference.string("key") or "")
    return found


def _pre_stop(one: Node) -> PreStop | None:
    lifecycle = one.get("lifecycle")
    key, value = lifecycle.pair("preStop") if lifecycle is not None else (None, None)
    if lifecycle is None or key is None or value is None:
        return None
    seconds = value.number("sleep", "seconds")
    if seconds is None:
        seconds = seconds_of(value.strings("exec", "command") or ())
    return PreStop(key, value, seconds, lifecycle)


def _probe(one: Node, key: str, ports: Mapping[str, float | None]) -> Probe | None:
    node = one.get(key)
    if node is None or node.kind != "map":
        return None
    period, threshold = node.number("periodSeconds"), node.number("failureThreshold")
    period = 10.0 if period is None else period
    threshold = 3.0 if threshold is None else threshold
    grace = node.get(GRACE)
    if (command := node.strings("exec", "command")) is not None:
        return Probe(
            key, node, "exec", command=command, period=period, threshold=threshold, grace=grace
        )
    for name, how in (("httpGet", "http"), ("tcpSocket", "tcp"), ("grpc", "grpc")):
        inner = node.get(name)
        if inner is None:
            continue
        port = inner.number("port")
        if port is None:
            port = ports.get(inner.string("port") or "")
        return Probe(
            key,
            node,
            how,
            port=int(port) if port is not None and 0 < port < 65536 else None,
            path=inner.string("path") or "/",
            port_node=inner.get("port"),
            path_node=inner.get("path"),
            period=period,
            threshold=threshold,
            grace=grace,
        )
    return None


def _security(pod: Node, one: Node) -> Security:
    context, outer = one.get("securityContext"), pod.get("securityContext")
    user = non_root = None
    for holder in (outer, context):
        if holder is not None:
            user = holder.get("runAsUser") or user
            if holder.truth("runAsNonRoot") is not None:
                non_root = _said(holder, "runAsNonRoot")
    mounts = tuple(item.string("mountPath") or "" for item in _items(one.get("volumeMounts"))
                   if not item.truth("readOnly"))  # fmt: skip
    capabilities = context.get("capabilities") if context is not None else None
    return Security(
        read_only=_said(context, "readOnlyRootFilesystem") if context is not None else None,
        writable=mounts,
        added=_names(capabilities, "add"),
        dropped=_names(capabilities, "drop"),
        node=context.pair("capabilities")[0] if context is not None else None,
        capabilities=capabilities,
        user=user.text if user is not None else None,
        user_node=user,
        non_root=non_root,
    )


def _names(capabilities: Node | None, key: str) -> frozenset[str]:
    words = capabilities.strings(key) if capabilities is not None else None
    return frozenset(word.upper().removeprefix("CAP_") for word in words or ())


def _rollout(one: Node, template: Node, beside: Beside) -> Rollout:
    kind = one.string("kind")
    if kind not in ("Deployment", "StatefulSet", "DaemonSet", "Rollout"):
        return Rollout()
    replicas = one.number("spec", "replicas") if kind != "DaemonSet" else None
    if kind != "DaemonSet" and one.get("spec", "replicas") is None:
        replicas = _least(one, beside)
    strategy = one.get("spec", "strategy") or one.get("spec", "updateStrategy")
    kind_of = strategy.get("type") if strategy is not None else None
    labels = _labels(template)
    budgets = beside.of("PodDisruptionBudget", one)
    where, disruption = next((each for each in budgets if _selects(each[1], labels)), ("", None))
    rolling = strategy.get("rollingUpdate") if strategy is not None else None
    return Rollout(
        replicas,
        kind_of if kind_of is not None and kind_of.text == "Recreate" else None,
        rolling.get("maxUnavailable") if rolling is not None else None,
        rolling.get("maxSurge") if rolling is not None else None,
        kind != "StatefulSet",
        one.get("spec"),
        disruption.get("spec") if disruption is not None else None,
        _name(disruption) if disruption is not None else "",
        where,
    )


def _least(one: Node, beside: Beside) -> float:
    """Return how many an autoscaler leaves, where the object itself does not say it."""
    for _, scaler in beside.of("HorizontalPodAutoscaler", one):
        target = scaler.get("spec", "scaleTargetRef")
        if target is not None and (target.string("kind"), target.string("name")) == (
            one.string("kind"),
            _name(one),
        ):
            return scaler.number("spec", "minReplicas") or 1.0
    return 1.0


def _selects(budget: Node, labels: Mapping[str, Node]) -> bool:
    """Return whether a PodDisruptionBudget is about these pods."""
    selector = budget.get("spec", "selector")
    if selector is None or selector.kind != "map":
        return False
    wanted = selector.get("matchLabels")
    rules = _items(selector.get("matchExpressions"))
    if not rules and (wanted is None or not wanted.pairs):
        return budget.string("apiVersion") == "policy/v1"  # all pods; v1beta1: none
    return all(_fits(rule, labels) for rule in rules) and (wanted is None or _has(labels, wanted))


def _fits(rule: Node, labels: Mapping[str, Node]) -> bool:
    """Return whether labels fit one of matchExpressions."""
    label, values = labels.get(rule.string("key") or ""), rule.strings("values") or ()
    match rule.string("operator"):
        case "In":
            return label is not None and label.text in values
        case "NotIn":
            return label is None or label.text not in values
        case "Exists":
            return label is not None
        case "DoesNotExist":
            return label is None
    return False
