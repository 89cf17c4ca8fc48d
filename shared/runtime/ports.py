"""Every port of one process, and how a function gets its share of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain.execution_settings import ExecutionSettings
from shared.domain.runtimes import Offer
from shared.ports.clock import Clock
from shared.ports.cluster import Cluster
from shared.ports.documents import Documents
from shared.ports.event_log import EventLog
from shared.ports.ids import Ids
from shared.ports.publisher import Outboxes, Publisher
from shared.ports.signals import Signals
from shared.runtime.functions import fill
from shared.runtime.outbox import LogPublisher, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports, wired to adapters; documents pass the outbox, so that what is emitted goes out."""

    log: EventLog
    outbox: Outbox
    signals: Signals
    cluster: Cluster
    clock: Clock
    ids: Ids
    offer: Offer
    settings: ExecutionSettings

    @property
    def publisher(self) -> Publisher:
        """Return the publisher of events that go with no change of a document."""
        return LogPublisher(self.log)

    def documents(self, name: str) -> Documents:
        """Return a collection by its name."""
        return self.outbox.documents(name)

    def fill(self, needs: type[Any]) -> Any:
        """Return the needs of a function, each field filled with the port of its type."""
        by_type: Mapping[type[Any], Any] = {
            EventLog: self.log,
            Outboxes: self.outbox,
            Publisher: self.publisher,
            Signals: self.signals,
            Cluster: self.cluster,
            Clock: self.clock,
            Ids: self.ids,
            Offer: self.offer,
            ExecutionSettings: self.settings,
        }
        return fill(needs, by_type, self.documents)
