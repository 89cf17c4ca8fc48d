"""The manifests of the project, as parsed documents."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.ports.functions import FunctionSpec

ROOT = Path(__file__).parents[2]
KEDA = ROOT / "keda"
KNATIVE = ROOT / "knative"
NAMESPACE = "integr8s"

SPECS = sorted(path.parent.name.replace("_", "-") for path in ROOT.glob("functions/*/spec.py"))
"""The slug of every function."""


@dataclass(frozen=True)
class Manifest:
    """One document of one file."""

    path: Path
    document: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Return what it is."""
        return str(self.document["kind"])

    @property
    def name(self) -> str:
        """Return what it is called."""
        return str(self.document["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}:{self.kind}/{self.name}"

    def pod(self) -> dict[str, Any]:
        """Return the spec of the pods that it makes."""
        found: dict[str, Any] = self.document["spec"]["template"]["spec"]
        return found

    def container(self) -> dict[str, Any]:
        """Return the only container of its pods."""
        [only] = self.pod()["containers"]
        return dict(only)


def of_file(path: Path) -> Iterator[Manifest]:
    """Yield the documents of one file."""
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        yield Manifest(path, document)


def of_folder(folder: Path) -> list[Manifest]:
    """Return the documents of a folder's files, without what is for kustomize."""
    paths = [path for path in sorted(folder.glob("*.yaml")) if path.stem != "kustomization"]
    return [manifest for path in paths for manifest in of_file(path)]


EVERY = [*of_folder(KNATIVE), *of_folder(KEDA)]
WITH_PODS = [
    one
    for one in EVERY
    if one.kind in {"Deployment", "Job"} or "serving" in str(one.document["apiVersion"])
]
"""Whatever starts our image."""


def spec_of(slug: str) -> FunctionSpec:
    """Return what a function says of itself."""
    module = importlib.import_module(f"functions.{slug.replace('-', '_')}.spec")
    spec: FunctionSpec = module.SPEC
    return spec
