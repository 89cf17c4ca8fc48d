"""What a canary is to try, and what its words mean."""

import socket

import pytest

from shared.adapters.kubernetes import canary
from shared.adapters.kubernetes.options import KubernetesOptions
from shared.domain.errors import StartupError

WORDS = (
    b"ok capabilities every set must be empty\nok seccomp must be 2\n"
    b"bad user_namespace its own\nreached api_server reached\nshut outside no answer\n"
    b"some runtime's own words\nok done \nbad processes 96\n"
)


def test_words_are_read() -> None:
    """A line of somebody else's is passed over."""
    found = canary.found_in(WORDS)

    assert found.is_whole
    assert found.reached == ("api_server",)
    assert found.broken == {"user_namespace": "its own", "processes": "96"}


def test_canary_that_was_cut_off_proves_nothing() -> None:
    """What it had not tried yet may be open."""
    assert not canary.found_in(WORDS.partition(b"ok done")[0]).is_whole


def test_layer_that_was_seen_broken_is_none() -> None:
    """Whatever was asked for."""
    found = canary.found_in(WORDS.replace(b"ok seccomp", b"bad seccomp"))
    layers = canary.layers(KubernetesOptions(), found)

    assert (layers["filter"], layers["network"]) == ("none", "none")
    assert layers["uid"] == "1000"


@pytest.mark.parametrize("check", ["seccomp", "token", "init_closed", "root_writable"])
def test_cluster_that_does_not_keep_a_pod_in_is_refused(check: str) -> None:
    """With the check that did not hold, and what was seen."""
    found = canary.found_in(f"bad {check} allowed\nok done \n".encode())

    with pytest.raises(StartupError, match=rf"{check} \(allowed\)"):
        canary.refuse_unsafe(found)


def test_what_an_operator_may_accept_is_no_refusal() -> None:
    """An open network, a user namespace of the node, processes that process 1 counts."""
    canary.refuse_unsafe(canary.found_in(WORDS))


def test_user_namespace_that_was_asked_for_but_is_not_there_is_told() -> None:
    """An older runtime ignores the field."""
    options = KubernetesOptions(host_users=False)

    assert canary.layers(options, None)["user"] == "namespace"
    assert canary.layers(options, canary.found_in(WORDS))["user"] == "the node's"


def test_network_that_lets_nothing_through_holds() -> None:
    """Then the policy is enforced."""
    found = canary.found_in(WORDS.replace(b"reached api_server reached", b"shut api_server x"))

    assert canary.layers(KubernetesOptions(), found)["network"] == "policy of the namespace"


def test_addresses_are_the_kernel_s() -> None:
    """As a process would pass them to connect()."""
    targets = canary.targets("https://127.0.0.2:6443", ("::1", 80))

    kind, _, address = targets["api_server"].partition(":")
    assert (kind, bytes.fromhex(address)) == (
        "t",
        socket.AF_INET.to_bytes(2, "little") + bytes([0x19, 0x2B, 127, 0, 0, 2]) + bytes(8),
    )
    assert bytes.fromhex(targets["pod"].removeprefix("t:"))[:4] == bytes([10, 0, 0, 80])
    assert targets.keys() >= {"outside", "metadata"}


def test_server_without_an_address_is_not_tried() -> None:
    """A name that this process cannot resolve is nothing that a script could reach."""
    assert "api_server" not in canary.targets("https://nowhere.invalid", None)


def test_own_address_stands_for_any_pod() -> None:
    """Where there is one that others could use; a loopback address is none."""
    with canary.listening("https://127.0.0.1:6443") as peer:
        assert peer is None


@pytest.mark.parametrize("image", ["localhost/x:1"])
def test_canary_runs_process_1_s_own_checks(image: str) -> None:
    """So any image will do."""
    spec = canary.spec("canary-1", image, {"outside": "t:00"})

    assert spec.runtime.command == ("/entry/init", "probe", "96", "outside", "t:00")
    assert spec.runtime.image == image
