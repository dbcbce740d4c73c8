"""Which platform a file is for, and the containers in it."""

from __future__ import annotations

from gracewrap.manifests import compose, ecs, kubernetes, nomad
from gracewrap.manifests.parse_text import Unreadable
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.manifests.model import Container
    from gracewrap.manifests.parse_text import File

KINDS = ("a Kubernetes manifest (kind), a Compose file or stack (services), an ECS task definition "
         "(containerDefinitions) or a Nomad job in JSON (Job)")  # fmt: skip


def containers(files: list[File], beside: kubernetes.Beside) -> list[Container]:
    """Return the containers of all files.

    Args:
        files: Where containers are looked for.
        beside: What is checked together with them.

    Raises:
        Unreadable: If a file is none that has any; the message names it.
    """
    found: list[Container] = []
    for file in files:
        known = False
        here: list[Container] = []
        objects = [one for root in file.documents for one in kubernetes.objects(root)]
        here += kubernetes.containers(file, objects, beside)
        for root in file.documents:
            definitions = list(ecs.definitions(root))
            for definition in definitions:
                here += ecs.containers(file, definition)
            if root.get("services") is not None:
                here += compose.containers(file, root)
                known = True
            if root.get("Job") is not None or root.get("job") is not None or root.get("TaskGroups"):
                here += nomad.containers(file, root)
                known = True
            known = known or bool(definitions)
        if not known and not objects:
            raise Unreadable(f"{file.name}: there is nothing in it that runs containers: it should "
                             f"be {KINDS}")  # fmt: skip
        found += here
    return found
