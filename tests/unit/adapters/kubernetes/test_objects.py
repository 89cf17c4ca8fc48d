"""The two objects of an execution, field by field."""

import base64
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.kubernetes import objects
from shared.adapters.kubernetes.job import job_of
from shared.adapters.kubernetes.objects import Inputs
from shared.adapters.kubernetes.options import KubernetesOptions
from shared.domain.errors import PermanentError
from shared.domain.input_limits import ALL_BYTES
from shared.ports.cluster import Limits, PodSpec
from tests.unit.adapters.kubernetes.specs import pod_spec

OPTIONS = KubernetesOptions()
MIB = 1024 * 1024


def inputs_of(spec: PodSpec, *, program: bytes = b"program") -> Inputs:
    """Return the inputs of a spec."""
    work = job_of(spec, is_filtered=True)
    return objects.inputs_of(spec, work, program=program, call_filter=b"filter")


def pod(spec: PodSpec | None = None, options: KubernetesOptions = OPTIONS) -> dict[str, Any]:
    """Return the pod of a spec."""
    spec = spec or pod_spec()
    return objects.pod(spec, inputs_of(spec), options, "mark")


def test_pod_is_found_by_its_labels() -> None:
    """What a user chose is no label: a label has an alphabet, and everybody may search for it."""
    metadata = pod()["metadata"]

    assert metadata["name"] == "exec-1"
    assert metadata["labels"] == {
        "app": "integr8s",
        "component": "executor",
        "execution-id": "1",
        "saga-id": "saga-1",
        "language": "python",
    }
    assert metadata["annotations"]["integr8s.io/user-id"] == "user/1"
    assert metadata["finalizers"] == ["integr8s.io/output"]


def test_pod_gives_its_script_nothing() -> None:
    """No account, no names, no network of the node, no second try."""
    spec = pod(pod_spec(timeout=timedelta(seconds=12.5)))["spec"]

    assert {name: spec[name] for name in ("restartPolicy", "dnsPolicy", "hostname")} == {
        "restartPolicy": "Never",
        "dnsPolicy": "None",
        "hostname": "sandbox",
    }
    assert spec["activeDeadlineSeconds"] == 343
    assert spec["terminationGracePeriodSeconds"] == 2
    refused = ("automountServiceAccountToken", "enableServiceLinks", "hostNetwork", "hostPID")
    assert [spec[name] for name in (*refused, "hostIPC")] == [False] * 5


def test_pod_runs_as_nobody_in_particular() -> None:
    """All that Pod Security `restricted` asks for, and a root that nobody can write to."""
    spec = pod()["spec"]
    (container,) = spec["containers"]

    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_container_holds_no_word_of_the_user() -> None:
    """The kubelet expands `$(NAME)` in commands and variables; files are left as they are."""
    (container,) = pod(pod_spec(args=("$(INTEGR8S_MARK)",)))["spec"]["containers"]

    assert container["command"] == ["/entry/init", "do", "/entry/job"]
    assert container["env"] == [{"name": "INTEGR8S_MARK", "value": "mark"}]
    assert container["image"] == "localhost/python:3.11"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert (container["stdin"], container["tty"]) == (False, False)
    assert container["terminationMessagePolicy"] == "File"


def test_resources_are_the_limits_of_the_execution() -> None:
    """A request is never more than the limit, which the API server would refuse."""
    limits = Limits(
        cpu_millicores=150,
        memory_bytes=64 * MIB,
        cpu_request_millicores=200,
        memory_request_bytes=32 * MIB,
    )
    (container,) = pod(pod_spec(limits=limits))["spec"]["containers"]

    assert container["resources"] == {
        "requests": {"cpu": "150m", "memory": str(32 * MIB), "ephemeral-storage": str(16 * MIB)},
        "limits": {"cpu": "150m", "memory": str(64 * MIB), "ephemeral-storage": str(64 * MIB)},
    }


def test_only_memory_can_be_written_to() -> None:
    """Three folders with a size each; everything else is mounted to be read."""
    spec = pod(pod_spec(limits=Limits(tmp_bytes=5 * MIB)))["spec"]
    (container,) = spec["containers"]
    volumes = {one["name"]: one.get("emptyDir") for one in spec["volumes"]}
    writable = {
        one["mountPath"]: volumes[one["name"]]
        for one in container["volumeMounts"]
        if not one.get("readOnly")
    }

    assert writable == {
        "/tmp": {"medium": "Memory", "sizeLimit": str(5 * MIB)},  # noqa: S108
        "/output": {"medium": "Memory", "sizeLimit": str(10 * MIB)},
        "/dev/shm": {"medium": "Memory", "sizeLimit": str(10 * MIB)},  # noqa: S108
    }


def test_inputs_lie_where_they_are_looked_for() -> None:
    """A key of a ConfigMap has an alphabet; the name of a file has none."""
    spec = pod_spec(files=[("ä b$", b"\xff")], stdin=b"in")
    config_map = objects.config_map(spec, inputs_of(spec))
    (volume,) = [one for one in pod(spec)["spec"]["volumes"] if one["name"] == "inputs"]
    found = {
        item["path"]: (base64.b64decode(config_map["binaryData"][item["key"]]), item["mode"])
        for item in volume["configMap"]["items"]
    }

    assert config_map["immutable"] is True
    assert found.pop("entry/job")[0].startswith(b"integr8s-job-1\0")
    assert found == {
        "entry/init": (b"program", 0o555),
        "entry/filter": (b"filter", 0o444),
        "entry/stdin": (b"in", 0o444),
        "scripts/main.py": (b"print(1)", 0o444),
        "scripts/ä b$": (b"\xff", 0o444),
    }


def test_orders_are_read_from_an_annotation() -> None:
    """It reaches a running pod without any right to enter it."""
    (volume,) = [one for one in pod()["spec"]["volumes"] if one["name"] == "orders"]

    assert volume["downwardAPI"]["items"] == [
        {
            "path": "order",
            "fieldRef": {"fieldPath": "metadata.annotations['integr8s.io/order']"},
        }
    ]


def test_largest_request_fits() -> None:
    """With process 1 as large as it may be, and every byte in the worst place."""
    spec = pod_spec(script=b"x" * (ALL_BYTES // 2), stdin=b"y" * (ALL_BYTES // 2))

    assert inputs_of(spec, program=b"p" * 128 * 1024).stdin is not None


def test_what_no_config_map_holds_is_refused_for_good() -> None:
    """The sentence names both numbers."""
    with pytest.raises(PermanentError, match="of 1048576"):
        inputs_of(pod_spec(stdin=b"x" * MIB))


def test_choices_of_the_deployment_are_fields_only_if_made() -> None:
    """A cluster that knows no such class or field must not refuse the pod."""
    options = KubernetesOptions(runtime_class="gvisor", priority_class="low", host_users=False)
    named = ("runtimeClassName", "priorityClassName", "hostUsers")

    assert [pod(options=options)["spec"][name] for name in named] == ["gvisor", "low", False]
    assert not {*named} & {*pod()["spec"]}


def test_each_pod_may_have_a_uid_of_its_own() -> None:
    """It follows from the name, so that a second try asks for the same pod."""
    options = KubernetesOptions(first_uid=100_000)
    uids = [objects.uid_of(f"exec-{number}", options) for number in range(100)]

    assert len(set(uids)) == 100
    assert all(100_000 <= uid < 100_000 + (1 << 24) for uid in uids)
    assert objects.uid_of("exec-7", options) == uids[7]


def test_limits_are_told_to_whoever_reads_the_pod() -> None:
    """Sentences about an end name them, and may be written by another process."""
    made = pod(pod_spec(limits=Limits(processes=3), timeout=timedelta(seconds=0.4)))

    assert objects.limits_of(made)["timeout_ms"] == 400
    assert objects.limits_of(made)["processes"] == 3
    assert objects.mark_of(made) == "mark"


def test_canary_is_like_any_executor_but_followed_by_nobody() -> None:
    """The same labels are what a policy selects by."""
    metadata = objects.as_canary(pod())["metadata"]

    assert metadata["labels"].items() >= objects.LABELS.items()
    assert metadata["labels"][objects.CANARY_LABEL] == "true"
    assert "finalizers" not in metadata
