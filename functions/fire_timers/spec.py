"""What the runtime knows of `fire-timers`."""

from functions.fire_timers.handler import Needs
from shared.events.timers import TimerDue
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(slug="fire-timers", wakes="clock", emits=(TimerDue,), needs=Needs)
