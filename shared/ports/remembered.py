"""What one replica knows of documents without asking: as it last wrote them, the newest."""

from collections import OrderedDict

from shared.ports.documents import Document


class Remembered:
    """Documents by key, as this replica last wrote them, each for whoever changes it next.

    Their next write asks for the version that it builds on, so one that somebody else has changed
    meanwhile is found out and read again.
    """

    def __init__(self, most: int) -> None:
        """Remember nothing yet, and never more than `most`."""
        self.documents: OrderedDict[str, Document] = OrderedDict()
        self._most = most

    def remember(self, key: str, document: Document) -> None:
        """Remember a document, and forget the oldest where there are too many."""
        self.documents[key] = document
        if len(self.documents) > self._most:
            self.documents.popitem(last=False)

    def take(self, key: str) -> Document | None:
        """Return a document and forget it: whoever takes it changes it before it is written."""
        return self.documents.pop(key, None)
