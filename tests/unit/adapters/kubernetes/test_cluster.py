"""What is asked of an API server for each call of the port, and in which order."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from shared.adapters.kubernetes import objects
from shared.adapters.kubernetes.cluster import KubernetesCluster, KubernetesOptions
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.domain.runtimes import Offer
from tests.unit.adapters.kubernetes import servers
from tests.unit.adapters.kubernetes.manifests import CREATING, OVER, RUNNING, manifest
from tests.unit.adapters.kubernetes.servers import (
    BASE,
    CONFIG_MAPS,
    PODS,
    FakeServer,
    Fault,
    refusal,
)
from tests.unit.adapters.kubernetes.specs import pod_spec
from tests.virtual_time import LoopClock, run_virtually

T = TypeVar("T")
NO_GRACE = timedelta(0)
CREATION = ["POST /configmaps", "POST /pods", "PATCH /configmaps/exec-1"]
ORDER = objects.ORDER


def cluster(server: FakeServer, **options: Any) -> KubernetesCluster:
    """Return a cluster that has its tools already: virtual time waits for no compiler."""
    made = servers.cluster(server, **options)
    made._tools = (b"program", b"filter")
    return made


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test on virtual time."""
    return run_virtually(test)


async def create(server: FakeServer, *names: str, **options: Any) -> KubernetesCluster:
    """Create pods at once."""
    made = cluster(server, **options)
    await asyncio.gather(*(made.create(pod_spec(name)) for name in names or ("exec-1",)))
    return made


def with_pod(pod: dict[str, Any]) -> FakeServer:
    """Return a server with one pod and its inputs."""
    server = FakeServer()
    pod["metadata"]["finalizers"] = [objects.FINALIZER, "somebody/else"]
    name = pod["metadata"]["name"]
    server.objects = {
        f"{PODS}/{name}": pod,
        f"{CONFIG_MAPS}/{name}": {"metadata": {"name": name}},
    }
    return server


def test_default_namespace_is_refused() -> None:
    """It has neither quota nor policy, and everybody's accounts."""
    with pytest.raises(StartupError, match="INTEGR8S_NAMESPACE"):
        KubernetesCluster(
            KubernetesOptions(namespace="default"),
            clock=LoopClock(),
            api=servers.api(FakeServer()),
        )


# ----------------------------------------------------------------------------------------- create


def test_inputs_come_first_and_then_belong_to_the_pod() -> None:
    """A pod would wait for inputs that are not there; inputs go when their pod does."""
    server = FakeServer()
    run(create(server))
    (owner,) = server.objects[f"{CONFIG_MAPS}/exec-1"]["metadata"]["ownerReferences"]

    assert server.told == CREATION
    assert owner["uid"] == server.objects[f"{PODS}/exec-1"]["metadata"]["uid"]


def test_second_create_makes_nothing() -> None:
    """A redelivery; the mark of the first stays."""
    server = FakeServer()

    async def test() -> None:
        one = await create(server)
        before = objects.mark_of(server.objects[f"{PODS}/exec-1"])
        await one.create(pod_spec())

        assert objects.mark_of(server.objects[f"{PODS}/exec-1"]) == before
        assert server.names == {"pods/exec-1", "configmaps/exec-1"}

    run(test())


def test_create_goes_on_where_a_crash_cut_it_off() -> None:
    """The inputs were there, the pod was not."""
    server = FakeServer()
    server.objects[f"{CONFIG_MAPS}/exec-1"] = {"metadata": {"name": "exec-1"}}
    run(create(server))

    assert server.names == {"pods/exec-1", "configmaps/exec-1"}
    assert "ownerReferences" in server.objects[f"{CONFIG_MAPS}/exec-1"]["metadata"]


def test_deleted_name_is_used_up() -> None:
    """Nothing is even asked for."""
    server = FakeServer()

    async def test() -> None:
        one = await create(server)
        await one.delete("exec-1", grace=NO_GRACE)
        server.requests.clear()
        await one.create(pod_spec())

    run(test())

    assert server.told == []
    assert server.names == set()


def test_pod_that_comes_after_its_clean_up_is_removed() -> None:
    """Without its inputs it could not start; what is left of it is an object, and it goes."""
    server = FakeServer()
    gone = Fault("POST", PODS, before=lambda: server.delete(f"{CONFIG_MAPS}/exec-1"))
    server.faults = [gone]
    run(create(server))

    assert server.names == set()


def test_inputs_that_come_after_the_clean_up_are_removed() -> None:
    """The pod was there, and went before it could be given anything."""
    server = with_pod(manifest(OVER))
    server.objects[f"{PODS}/exec-1"]["metadata"]["finalizers"] = []
    gone = Fault("GET", f"{PODS}/exec-1", before=lambda: server.delete(f"{PODS}/exec-1"))
    server.faults = [gone]
    run(create(server))

    assert server.names == set()


def test_create_that_took_too_long_makes_no_pod() -> None:
    """Its process was stopped; meanwhile somebody may have given the execution up."""
    server = FakeServer(faults=[Fault("POST", CONFIG_MAPS, delay=21)])

    with pytest.raises(TemporaryError, match="too long"):
        run(create(server))

    assert "POST /pods" not in server.told


def test_ten_creations_at_most_are_under_way() -> None:
    """However many are asked for."""
    names = [f"exec-{number}" for number in range(25)]
    server = FakeServer(faults=[Fault("POST", CONFIG_MAPS, delay=1) for _ in names])
    run(create(server, *names))

    assert server.most_busy == 10
    assert len(server.names) == 50


def test_version_without_an_image_is_refused_for_good() -> None:
    """Before anything is made."""
    server = FakeServer()

    with pytest.raises(PermanentError, match=r"python 3\.11"):
        run(create(server, offer=Offer({"bash": ("5.2",)})))

    assert server.told == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(403, "Forbidden", "exceeded quota: pods"), TemporaryError),
        (refusal(422, "Invalid", "spec is wrong"), PermanentError),
    ],
)
def test_refusal_is_told(answer: Any, error: type[Exception]) -> None:
    """With the server's own words."""
    server = FakeServer(faults=[Fault("POST", PODS, answer)])

    with pytest.raises(error, match=r"quota|wrong"):
        run(create(server))


# ----------------------------------------------------------------------------------------- delete


def delete(server: FakeServer, seconds: float = 0, *, cancel: bool = False) -> None:
    """Delete the pod."""
    grace = timedelta(seconds=seconds)
    run(cluster(server).delete("exec-1", grace=grace, cancel=cancel))


def last(server: FakeServer, told: str) -> Any:
    """Return the body of the last request of a kind."""
    return next(
        body
        for method, path, body in reversed(server.requests)
        if f"{method} {path.removeprefix(BASE)}" == told
    )


@pytest.mark.parametrize(
    ("pod", "seconds"),
    [
        (manifest(RUNNING, phase="Running"), 3),
        (manifest(OVER, phase="Succeeded"), 0),
        (manifest(CREATING), 0),
    ],
    ids=["running", "ended", "waiting"],
)
def test_only_who_runs_is_given_time(pod: dict[str, Any], seconds: int) -> None:
    """Whole seconds, never less than asked for; process 1 is told the same."""
    server = with_pod(pod)
    delete(server, 2.5)

    assert last(server, "DELETE /pods/exec-1")["gracePeriodSeconds"] == seconds
    assert last(server, "PATCH /pods/exec-1")["metadata"]["annotations"] == {ORDER: "remove 2500"}


def test_delete_takes_our_finaliser_off_and_no_other() -> None:
    """Whoever put another one there has a reason."""
    server = with_pod(manifest(OVER, phase="Succeeded"))
    delete(server)

    assert server.objects[f"{PODS}/exec-1"]["metadata"]["finalizers"] == ["somebody/else"]
    assert "configmaps/exec-1" not in server.names


@pytest.mark.parametrize("cancel", [True, False])
def test_delete_of_nothing_is_success(cancel: bool) -> None:  # noqa: FBT001
    """It comes again, or too late."""
    delete(FakeServer(), cancel=cancel)


def test_running_one_is_cancelled_by_an_order() -> None:
    """Its process 1 reads it; the object stays as it is."""
    server = with_pod(manifest(RUNNING, phase="Running"))
    delete(server, 2, cancel=True)

    assert server.told == ["PATCH /pods/exec-1"]
    assert server.objects[f"{PODS}/exec-1"]["metadata"]["annotations"][ORDER] == "cancel 2000"


@pytest.mark.parametrize(
    "pod", [manifest(OVER, phase="Succeeded"), manifest(CREATING, deleted=True)]
)
def test_one_that_is_over_is_left_alone(pod: dict[str, Any]) -> None:
    """There is nothing to end."""
    server = with_pod(pod)
    delete(server, cancel=True)

    assert server.told == ["PATCH /pods/exec-1"]


def test_one_that_waits_on_a_node_is_ended_by_the_kubelet() -> None:
    """A time limit of a second is over at once; the object and its log stay."""
    server = with_pod(manifest(CREATING))
    delete(server, cancel=True)

    assert server.objects[f"{PODS}/exec-1"]["spec"]["activeDeadlineSeconds"] == 1


def test_one_that_waits_for_a_node_is_kept_from_it() -> None:
    """No node would end it; deleted but held, it is given to none any more."""
    server = with_pod(manifest(node=None))
    delete(server, cancel=True)

    assert "deletionTimestamp" in server.objects[f"{PODS}/exec-1"]["metadata"]


# ------------------------------------------------------------------------------- what is left over


def test_sweep_removes_inputs_without_a_pod() -> None:
    """Those that are old enough, by the server's own clock."""
    server = with_pod(manifest(OVER))
    for number, made_at in enumerate(servers.ages(60)):
        metadata = {"name": f"exec-old{number}", "creationTimestamp": made_at.isoformat()}
        server.objects[f"{CONFIG_MAPS}/exec-old{number}"] = {"metadata": metadata}

    async def test() -> None:
        sweeping = cluster(server)
        sweeping._clock = LoopClock(offset=timedelta(minutes=10))
        found = await sweeping.sweep(timedelta(seconds=60), dry_run=True)
        assert found == ["exec-old2"]
        assert "configmaps/exec-old2" in server.names
        assert await sweeping.sweep(timedelta(seconds=60)) == ["exec-old2"]

    run(test())

    assert "configmaps/exec-old2" not in server.names
    assert "configmaps/exec-1" in server.names


def test_ping_needs_an_answer_that_knows_us() -> None:
    """That a pod is not there is an answer."""
    run(cluster(FakeServer()).ping())
    path = f"{PODS}/integr8s"

    with pytest.raises(PermanentError):
        run(cluster(FakeServer(faults=[Fault("GET", path, refusal(403, "Forbidden"))])).ping())
    with pytest.raises(TemporaryError):
        run(cluster(FakeServer(faults=[Fault("GET", path, refusal(503))])).ping())


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, {"uid": "1000", "network": "policy of the namespace, unproven"}),
        ({"first_uid": 100_000}, {"uid": "per pod", "processes": "rlimit of the pod's own uid"}),
        ({"host_users": False}, {"user": "namespace"}),
        ({"internet_sockets": False}, {"network": "seccomp, no internet sockets"}),
    ],
)
def test_isolation_follows_the_choices(options: dict[str, Any], layers: dict[str, str]) -> None:
    """What nobody has proved is told as such."""
    isolation = run(cluster(FakeServer(), **options).isolation())

    assert isolation.launcher == "kubernetes"
    assert isolation.layers.items() >= layers.items()
