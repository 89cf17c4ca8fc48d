"""What a doctor makes of the facts about a cluster installation."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.cli import doctor_cluster as doctor
from gateway.cli.findings import Finding, show
from gateway.cli.invariants import judged, leftovers
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.installation import Namespace
from shared.ports.scaling import Workload
from shared.ports.setup import Finding as SetUp
from shared.runtime.functions import SLUGS
from shared.runtime.invariants import Violation

NAMESPACE = Namespace("integr8s", "restricted", frozenset({"executors", "functions"}))
READY = Workload(
    slug="coordinate",
    replicas=0,
    min_replicas=0,
    max_replicas=3,
    active=False,
    last_active_at=None,
    cooldown=timedelta(seconds=5),
    paused=False,
    ready=True,
    message="",
)
ALL = [replace(READY, slug=slug) for slug in SLUGS]


def states(found: Sequence[Finding]) -> list[tuple[str, str]]:
    """Return check and state of each finding."""
    return [(one.check, one.state) for one in found]


@pytest.mark.parametrize(
    ("name", "error", "state", "remedy"),
    [
        ("event log", None, "ok", ""),
        ("event log", TemporaryError("away"), "fail", "INTEGR8S_KAFKA_SERVERS"),
        ("documents", PermanentError("refused"), "fail", "INTEGR8S_MONGO_URL"),
        ("documents", StartupError("No user.", remedy="Make one."), "fail", "Make one."),
        ("signals", TemporaryError("away"), "warn", "INTEGR8S_REDIS_URL"),
    ],
)
async def test_each_engine_is_judged_by_its_answer(
    name: str, error: Exception | None, state: str, remedy: str
) -> None:
    """Work goes on without signals, and without nothing else."""

    async def check() -> None:
        if error is not None:
            raise error

    found = await doctor.engine(name, check)

    assert found.state == state
    assert remedy in found.remedy


def test_a_setup_without_drift_is_one_line() -> None:
    """Nobody reads fifty lines that say that all is well."""
    found = doctor.set_up("topics", [SetUp("topic a", "same"), SetUp("topic b", "same")])

    assert found == [Finding("topics", "ok", "all 2 are as they should be")]


def test_drift_is_told_with_its_remedy() -> None:
    """What differs is a failure; what is only too much is worth a look."""
    found = doctor.set_up(
        "indexes",
        [
            SetUp("index users.email_1", "differs", "is missing", "Apply."),
            SetUp("index users.old_1", "same", "is none of ours", "Drop it."),
            SetUp("index users.name_1", "same"),
        ],
    )

    assert found == [
        Finding("indexes", "fail", "index users.email_1 is missing", "Apply."),
        Finding("indexes", "warn", "index users.old_1 is none of ours", "Drop it."),
    ]


def test_records_that_wait_are_counted_per_group() -> None:
    """A moment's lag is work, so it is no failure."""
    waiting = doctor.lag({"coordinate": 3, "notify": 0})
    nothing = doctor.lag({"coordinate": 0})

    assert (waiting.state, waiting.seen) == ("warn", "records wait: 3 for coordinate")
    assert nothing.state == "ok"


def test_a_sound_namespace_is_sound() -> None:
    """It is there, restricted, and has the policy for scripts."""
    found = doctor.namespace(NAMESPACE, accept_no_policy=False)

    assert states(found) == [("namespace", "ok"), ("Pod Security", "ok"), ("policies", "ok")]


@pytest.mark.parametrize(
    ("namespace", "check", "remedy"),
    [
        (None, "namespace", "knative/00-namespace.yaml"),
        (replace(NAMESPACE, pod_security=""), "Pod Security", "enforce=restricted"),
        (replace(NAMESPACE, pod_security="baseline"), "Pod Security", "enforce=restricted"),
        (replace(NAMESPACE, policies=frozenset()), "policies", "knative/20-policies.yaml"),
    ],
    ids=["missing", "not enforced", "baseline", "no policy"],
)
def test_a_namespace_that_keeps_nobody_in_fails(
    namespace: Namespace | None, check: str, remedy: str
) -> None:
    """With the command that mends it."""
    found = {
        one.check: one
        for one in doctor.namespace(namespace, accept_no_policy=False)
        if one.state == "fail"
    }

    assert set(found) == {check}
    assert remedy in found[check].remedy


def test_a_missing_policy_that_was_accepted_is_worth_a_look() -> None:
    """The setting says that somebody knows."""
    bare = replace(NAMESPACE, policies=frozenset())

    assert ("policies", "warn") in states(doctor.namespace(bare, accept_no_policy=True))


def test_functions_that_can_all_be_woken_are_one_line() -> None:
    """As many as there are."""
    assert doctor.scaled(ALL) == [Finding("KEDA", "ok", f"{len(SLUGS)} ScaledObjects are ready")]


def test_what_keeps_a_function_asleep_is_named() -> None:
    """Not ready, paused, or without anybody who wakes it."""
    stuck = replace(READY, ready=False, message="error creating kafka client")
    paused = replace(READY, slug="submit", paused=True)
    others = [one for one in ALL if one.slug not in ("coordinate", "submit", "saga-step")]

    found = doctor.scaled([stuck, paused, *others])

    assert [(one.state, one.seen) for one in found] == [
        ("fail", "no ScaledObject wakes saga-step"),
        ("fail", "coordinate is not ready: error creating kafka client"),
        ("warn", "submit is paused"),
    ]


def test_submit_may_be_fed_by_something_else() -> None:
    """A source of Knative reads its topic where the installation chose that."""
    found = doctor.scaled([one for one in ALL if one.slug != "submit"])

    assert states(found) == [("KEDA", "warn")]


def test_only_what_two_looks_show_is_a_breach() -> None:
    """A system that runs moves on between reading its documents and reading its events."""
    passing, lasting, fresh = (Violation(1, name, "is lost") for name in "abc")
    other = Violation(2, "b", "ended twice")

    found = doctor.both({1: [passing, lasting], 2: []}, {1: [lasting, fresh], 2: [other]})

    assert found == {1: [lasting], 2: []}


def test_a_breach_names_the_first_few() -> None:
    """And how many more there are."""
    violations = {1: [Violation(1, f"e{number}", "is lost") for number in range(7)], 2: []}

    broken, kept = judged(violations, remedy="Report it.")

    assert (broken.check, broken.state, broken.remedy) == ("invariant 1", "fail", "Report it.")
    assert broken.seen.count("is lost") == 5
    assert broken.seen.endswith("and 2 more")
    assert (kept.check, kept.state) == ("invariant 2", "ok")


def test_what_waits_for_somebody_is_told() -> None:
    """Parked dead letters want an administrator; unfinished executions do not."""
    documents = {
        "dead_letters": [{"status": "parked"}, {"status": "waiting"}],
        "executions": [{"status": "running"}, {"status": "completed"}],
    }

    found = leftovers(documents, go_on="have not ended")

    assert [(one.check, one.state, one.seen) for one in found] == [
        ("dead letters", "warn", "1 are parked"),
        ("executions", "ok", "2, of which 1 have not ended"),
    ]


def test_exit_code_tells_whether_anything_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings alone do not fail a script that asks."""
    good = [Finding("a", "ok", "well"), Finding("b", "warn", "so so", "Look.")]

    assert show(good, json=False) == 0
    assert show([*good, Finding("c", "fail", "broken", "Mend it.")], json=True) == 1

    told = capsys.readouterr().out
    assert "everything holds, 1 to look at" in told
    assert "-> Look." in told
    assert '"remedy": "Mend it."' in told
