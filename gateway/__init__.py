"""The HTTP front: it knows who asks, hands submissions on, and shows what happens."""
