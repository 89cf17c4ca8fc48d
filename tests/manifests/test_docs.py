"""What docs/cluster.md says about the manifests."""

import re

import pytest
import yaml

from shared.runtime.settings import Settings
from tests.manifests import access
from tests.manifests.documents import EVERY, KNATIVE, ROOT, WITH_PODS

TEXT = access.DOCUMENT.read_text(encoding="utf-8")
SECRETS = {
    name
    for one in EVERY
    if one.kind == "TriggerAuthentication"
    for name in (each["name"] for each in one.document["spec"]["secretTargetRef"])
} | {
    source["secretRef"]["name"]
    for one in WITH_PODS
    for source in one.container()["envFrom"]
    if "secretRef" in source and not source["secretRef"].get("optional")
}


def test_table_follows_from_the_code() -> None:
    """Who restricts a function by it restricts it to what it does."""
    assert access.rendered(TEXT) == TEXT, "run: python -m tests.manifests.access"


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_every_secret_is_made(name: str) -> None:
    """Each that a pod or a trigger cannot do without has its command."""
    assert f"kubectl create secret generic {name} -n integr8s" in TEXT


def test_keys_of_secrets_are_those_that_are_read() -> None:
    """By KEDA as the authentications say, by us as settings."""
    asked = {
        each["key"]
        for one in EVERY
        if one.kind == "TriggerAuthentication"
        for each in one.document["spec"]["secretTargetRef"]
    }
    given = set(re.findall(r"--from-literal=(\w+)=", TEXT))
    settings = {f"INTEGR8S_{name.upper()}" for name in Settings.model_fields}

    assert given <= asked | settings
    assert set(re.findall(r"INTEGR8S_\w+\b", TEXT)) <= settings | {
        # Those of the command line, which talks to any installation.
        *("INTEGR8S_URL", "INTEGR8S_API_KEY"),
    }


def test_files_outside_of_the_kustomization_are_explained() -> None:
    """Nobody meets a numbered file that no step mentions."""
    listed = yaml.safe_load((KNATIVE / "kustomization.yaml").read_text("utf-8"))["resources"]
    apart = {path.name for path in KNATIVE.glob("[0-9]*.yaml")} - set(listed)

    assert apart
    assert not [name for name in apart if f"../knative/{name}" not in TEXT]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((\.\./[\w./-]+)\)", TEXT))))
def test_link_leads_somewhere(path: str) -> None:
    """To a file of the project."""
    assert (ROOT / "docs" / path).exists()
