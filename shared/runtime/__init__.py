"""The only place that knows processes: settings, wiring, pumps, outbox, scaling, the local system."""
