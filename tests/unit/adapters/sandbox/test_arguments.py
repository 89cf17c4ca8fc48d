"""The command line of a sandbox, word by word."""

from dataclasses import replace
from datetime import timedelta

from shared.adapters.sandbox import arguments
from shared.adapters.sandbox.arguments import Bind, Job, View
from shared.ports.cluster import Limits, PodSpec, Runtime

VIEW = View(
    bubblewrap="/usr/bin/bwrap",
    init="/cache/init-1",
    etc="/cache/etc-1",
    folders=("/usr", "/opt/packages"),
    links=(("/bin", "usr/bin"), ("/lib", "usr/lib")),
)
JOB = Job(
    command=("/usr/bin/python3.11", "/scripts/main.py", "a b"),
    environment={"PATH": "/usr/bin", "EXECUTION_ID": "1"},
    files=("main.py", "data.csv"),
    timeout_ms=1500,
    limits=Limits(tmp_bytes=20_000_000, processes=10, open_files=99),
)
SPEC = PodSpec(
    name="exec-1",
    execution_id="1",
    saga_id="s",
    user_id="u",
    runtime=Runtime("go", "1.22", "golang", ("go", "run"), "main.go", {"PATH": "/bin", "A": "b"}),
    script=b"",
    args=("-x",),
    files=(("more.txt", b""),),
    timeout=timedelta(milliseconds=10),
)


def test_golden_command_line() -> None:
    """The whole of it: an order that is changed by accident changes here."""
    assert " ".join(arguments.bubblewrap(JOB, VIEW)) == (
        "/usr/bin/bwrap --unshare-all --unshare-user --disable-userns --die-with-parent"
        " --new-session --hostname sandbox --uid 1000 --gid 1000"
        " --ro-bind /usr /usr --ro-bind /opt/packages /opt/packages"
        " --symlink usr/bin /bin --symlink usr/lib /lib"
        " --ro-bind /cache/etc-1 /etc --ro-bind /cache/init-1 /entry/init"
        " --perms 0444 --ro-bind-data 5 /scripts/main.py"
        " --perms 0444 --ro-bind-data 6 /scripts/data.csv"
        " --proc /proc --dev /dev"
        " --size 20000000 --tmpfs /tmp --size 10485760 --tmpfs /output"
        " --size 10485760 --tmpfs /dev/shm"
        " --remount-ro /dev --remount-ro /proc --remount-ro /"
        " --chdir /tmp --seccomp 4 --as-pid-1 -- /entry/init"
        " init 1500 19 99 20000000 0 2 EXECUTION_ID=1 PATH=/usr/bin"
        " /usr/bin/python3.11 /scripts/main.py a b"
    )


def test_interpreter_elsewhere_is_bound() -> None:
    """At the place that it was built for, from where the slot's user can walk to."""
    job = replace(JOB, binds=(Bind("/opt/py"), Bind("/srv/py", shown_at="/cache/shown")))
    words = " ".join(arguments.bubblewrap(job, VIEW))

    assert " --ro-bind /opt/py /opt/py --ro-bind /cache/shown /srv/py " in words


def test_a_layer_can_be_left_out() -> None:
    """For the tests that show what it is good for."""
    words = arguments.bubblewrap(JOB, VIEW, filtered=False, sealed=False)

    assert "--seccomp" not in words
    assert "--remount-ro" not in words


def test_without_groups_limits_are_per_process() -> None:
    """Then the data segment is bounded, and the process limit has no slack."""
    words = arguments.init(replace(JOB, data_bytes=123))

    assert words[2] == "11"
    assert words[5] == "123"


def test_golden_entry() -> None:
    """Who spawns, what is kept, whom it becomes, where it joins, what it shows."""
    words = arguments.enter(
        binary="/cache/init-1",
        parent=7,
        descriptors=[10, 12, 13],
        uid=70_001,
        groups=["/g/a/tasks", "/g/b/tasks"],
        binds=[Bind("/opt/py"), Bind("/srv/py", shown_at="/cache/shown")],
    )

    assert " ".join(words) == (
        "/cache/init-1 enter 7 10,12,13 70001 70001 2 /g/a/tasks /g/b/tasks"
        " 1 /srv/py /cache/shown --"
    )


def test_own_user_is_kept_where_there_is_no_other() -> None:
    """An ordinary user cannot become anybody else."""
    words = arguments.enter(binary="b", parent=1, descriptors=[0], uid=None, groups=[])

    assert words[4:7] == ["-1", "-1", "0"]


def test_job_of_a_spec() -> None:
    """Interpreter, script, arguments; the environment is the registry's and two words more."""
    job = arguments.job_of(
        SPEC, interpreter=("/usr/local/go/bin/go", "run"), folder="/usr/local/go/bin"
    )

    assert job.command == ("/usr/local/go/bin/go", "run", "/scripts/main.go", "-x")
    assert job.environment == {
        "PATH": "/usr/local/go/bin:/bin",
        "A": "b",
        "OUTPUT_PATH": "/output",
        "EXECUTION_ID": "1",
    }
    assert job.files == ("main.go", "more.txt")
    assert job.timeout_ms == 10


def test_path_is_left_alone_where_it_has_the_folder() -> None:
    """A script sees the registry's PATH, unless its own interpreter were missing there."""
    job = arguments.job_of(SPEC, interpreter=("/bin/x",), folder="/bin")

    assert job.environment["PATH"] == "/bin"
