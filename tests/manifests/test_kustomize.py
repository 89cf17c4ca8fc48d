"""What kustomize makes of the folders that operators apply."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.documents import KEDA, KNATIVE, NAMESPACE, ROOT, SPECS

KUBECTL = shutil.which("kubectl")
FOLDERS = [
    KNATIVE,
    KEDA,
    *sorted(path.parent for path in ROOT.glob("tests/cluster/**/kustomization.yaml")),
]

pytestmark = pytest.mark.skipif(
    KUBECTL is None, reason="kubectl is not on PATH; the files are parsed by the other tests"
)


def build(folder: Path) -> list[dict[str, Any]]:
    """Return what would be applied."""
    done = subprocess.run(
        [KUBECTL or "", "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def installation(folder: Path, *, components: list[str], image: str) -> Path:
    """Make the kustomization of an operator who has a profile and an image of their own."""
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["main/knative", "main/keda"],
        "components": [f"main/keda/overlays/{name}" for name in components],
        "images": [{"name": "integr8s", "newName": image, "newTag": "1.2"}],
    }
    for source in (KNATIVE, KEDA):
        shutil.copytree(source, folder / "main" / source.name)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def scaled(documents: list[dict[str, Any]], field: str) -> dict[str, int]:
    """Return one number of every ScaledObject."""
    return {
        one["metadata"]["name"]: one["spec"][field]
        for one in documents
        if one["kind"] == "ScaledObject"
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_folder_builds(folder: Path) -> None:
    """Into objects of our namespace, the namespace itself among them or before them."""
    documents = build(folder)

    assert documents
    assert {
        one["metadata"].get("namespace", NAMESPACE)
        for one in documents
        if one["kind"] != "Namespace"
    } == {NAMESPACE}


def test_functions_build_as_they_are_written() -> None:
    """The zero profile changes nothing: what one machine computes is what a cluster does."""
    built = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in build(KEDA)}
    written = {
        (one["kind"], one["metadata"]["name"]): one["spec"]
        for slug in SPECS
        for one in yaml.safe_load_all((KEDA / f"{slug}.yaml").read_text("utf-8"))
    }

    assert {key: built[key] for key in written} == written


def test_image_of_an_operator_reaches_every_container(tmp_path: Path) -> None:
    """Deployments, Jobs and Knative Services alike."""
    documents = build(installation(tmp_path, components=[], image="reg.example/i8s"))

    images = {
        container["image"]
        for one in documents
        for container in one.get("spec", {})
        .get("template", {})
        .get("spec", {})
        .get("containers", ())
    }

    assert images == {"reg.example/i8s:1.2"}


def test_warm_profile_keeps_the_way_to_a_result_up(tmp_path: Path) -> None:
    """One replica of each function on it; the others still sleep."""
    documents = build(installation(tmp_path, components=["warm"], image="i"))

    awake = {slug for slug, least in scaled(documents, "minReplicaCount").items() if least}

    assert awake == {"coordinate", "launch-pod", "monitor-pods", "persist-result", "relay-events"}


def test_warm_profile_looks_every_second_only_where_somebody_waits(tmp_path: Path) -> None:
    """Each look at a busy function is a write in the cluster and a question for each topic."""
    documents = build(installation(tmp_path, components=["warm"], image="i"))

    looks = scaled(documents, "pollingInterval")

    assert {slug for slug, seconds in looks.items() if seconds == 1} == {
        "fire-timers",
        "retry-dead-letters",
        "submit",
    }
    assert set(looks.values()) == {1, 5}


def test_large_profile_raises_the_maxima(tmp_path: Path) -> None:
    """And touches nothing else."""
    documents = build(installation(tmp_path, components=["large"], image="i"))

    maxima = scaled(documents, "maxReplicaCount")

    assert maxima["coordinate"] == 48
    assert maxima["launch-pod"] == 12
    assert maxima["fire-timers"] == 1
    assert set(scaled(documents, "minReplicaCount").values()) == {0}
