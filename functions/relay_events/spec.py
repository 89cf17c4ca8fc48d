"""What the runtime knows of `relay-events`."""

from functions.relay_events.handler import Needs
from shared.events.topics import Topic
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="relay-events",
    whole_topics=(
        Topic.EXECUTION_EVENTS,
        Topic.POD_EVENTS,
        Topic.EXECUTION_RESULTS,
        Topic.USER_EVENTS,
    ),
    needs=Needs,
    # What is held back for an event of another topic keeps its place meanwhile. With fewer places
    # than executions under way that other event finds none, and all wait their patience out.
    concurrency=1_024,
)
