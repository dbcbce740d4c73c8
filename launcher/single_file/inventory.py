"""Writes what is inside the single file: an SBOM in SPDX 2.3, and the licences."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sources import RELEASE, Source


@dataclass(frozen=True)
class Component:
    """A part that somebody else has made; *terms* is the file of its licence."""

    name: str
    version: str
    licence: str  # as SPDX names it
    terms: Path | str
    purl: str = ""  # where it is from; "": Debian's package of that name

    @property
    def identifier(self) -> str:
        """Its package URL, by which scanners find what is known of it."""
        return self.purl or f"pkg:deb/debian/{self.name}@{self.version}?distro={RELEASE}"


def of_source(source: Source, licence: str, terms: str) -> Component:
    """Return a component that is built from Debian's source; *terms* is a file in that."""
    version = quote(source.version, safe="")
    purl = f"pkg:deb/debian/{source.name}@{version}?arch=source&distro={RELEASE}"
    return Component(source.name, source.version, licence, source.tree / terms, purl)


def of_python_package(name: str) -> Component:
    """Return a component that is installed in the Python that runs this."""
    found = importlib.metadata.distribution(name)
    terms = [
        file
        for file in found.files or ()
        if re.search(r"(?i)licen[cs]e|copying", file.name) and file.suffix != ".py"
    ]
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{found.version}"
    return Component(name, found.version, "MIT", Path(str(found.locate_file(terms[0]))), purl)


def write(target: Path, inside: list[Component], root: Path) -> None:
    """Write TARGET.spdx.json and TARGET.NOTICE beside it."""
    notice = [
        "gracewrap, as a single file, has these parts of others inside.  Each is under its own\n"
        "licence, which follows; gracewrap itself is under the first one.\n"
    ]
    rule = "\n" + "-" * 78 + "\n"
    notice.append(f"gracewrap (MIT)\n\n{(root / 'LICENSE').read_text()}")
    for one in inside:
        terms = Path(one.terms).read_text(errors="replace")
        notice.append(f"{one.name} {one.version} ({one.licence})\n\n{terms}")
    target.with_name(f"{target.name}.NOTICE").write_text(rule.join(notice))
    target.with_name(f"{target.name}.spdx.json").write_text(
        json.dumps(_spdx(target, inside, _own_version(root)), indent=2) + "\n"
    )


def _own_version(root: Path) -> str:
    text = (root / "supervisor" / "gracewrap" / "__init__.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None
    return found[1]


def _spdx(target: Path, inside: list[Component], version: str) -> dict[str, object]:
    """Return the SBOM of *target*."""
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    at = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    own = {
        **_package("gracewrap", version, "MIT"),
        "packageFileName": target.name,
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
    }
    parts = []
    for one in inside:
        purl = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl"}
        found = {"externalRefs": [{**purl, "referenceLocator": one.identifier}]}
        parts.append({**_package(one.name, one.version, one.licence), **found})
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": target.name,
        "documentNamespace": f"urn:sha256:{digest}",
        "creationInfo": {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
            "creators": ["Tool: gracewrap-launcher-single_file"],
        },
        "packages": [own, *parts],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", own),
            *(_relation(str(own["SPDXID"]), "CONTAINS", part) for part in parts),
        ],
    }


def _package(name: str, version: str, licence: str) -> dict[str, object]:
    return {
        "SPDXID": f"SPDXRef-{re.sub('[^A-Za-z0-9.-]', '-', name)}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    }


def _relation(one: str, what: str, other: dict[str, object]) -> dict[str, object]:
    return {
        "spdxElementId": one,
        "relationshipType": what,
        "relatedSpdxElement": other["SPDXID"],
    }
