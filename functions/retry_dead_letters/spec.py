"""What the runtime knows of `retry-dead-letters`."""

from functions.retry_dead_letters.handler import Needs
from shared.events.dead_letters import DeadLetterParked, DeadLetterReceived, DeadLetterRetried
from shared.events.system import SystemAlert
from shared.events.timers import TimerDue
from shared.events.topics import Topic
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="retry-dead-letters",
    consumes=(TimerDue,),
    whole_topics=(Topic.DEAD_LETTERS,),
    emits=(DeadLetterReceived, DeadLetterRetried, DeadLetterParked, SystemAlert),
    needs=Needs,
    raw=True,
)
