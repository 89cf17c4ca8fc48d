"""FunctionSpec: the port by which the runtime meets a function."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from shared.events.event import Payload
from shared.events.topics import Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What the runtime does when a handler raises TemporaryError or has a bug."""

    attempts: int = 2
    """Tries in process, all within `within`, before the event goes to `dead_letters`."""
    first_delay: timedelta = timedelta(milliseconds=200)
    longest_delay: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """What a function waits for, says and needs. Its slug is the folder with hyphens."""

    slug: str
    wakes: Literal["events", "clock", "cluster"] = "events"
    """`events`: `handler.handle(event, needs)` per event. Else `handler.run(needs)` while awake."""
    consumes: Sequence[type[Payload]] = ()
    emits: Sequence[type[Payload]] = ()
    needs: type[tuple[object, ...]]
    """A NamedTuple of ports; the runtime fills each field by its type, Documents by its name."""
    whole_topics: Sequence[Topic] = ()
    """Topics of which every type is wanted, known or not."""
    time_limit: timedelta = timedelta(seconds=30)
    retry: Retry = field(default_factory=Retry)
    concurrency: int = 16
    """Keys handled at once by one replica."""
    accepts_replay: bool = False
    raw: bool = False
    """The handler takes records as they are: `handler.handle_record(record, needs)`."""
    linger: timedelta = timedelta(0)
    """How long events of one key are gathered for `handler.handle_batch(events, needs)`.

    For functions that nobody waits for: what comes close together is one write instead of several.
    """
    urgent: Sequence[type[Payload]] = ()
    """Types that end the gathering: somebody waits for what follows."""
    joins_topics: bool = False
    """Whether a batch gathers one key over all topics; else each topic of a key has its own."""
    starts_scripts: bool = False
    """Whether it may only run where scripts were proven to reach nothing."""
    reconcile_every: timedelta | None = None
    """`handler.reconcile(needs)` is called at the start of a replica and this often after."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Return the topics of its consumer group, in the order of the catalogue."""
        wanted = {payload.TOPIC for payload in self.consumes} | set(self.whole_topics)
        return tuple(topic for topic in Topic if topic in wanted)
