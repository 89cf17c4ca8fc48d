"""The only place that knows processes: settings, wiring, pumps, scaling, the local system."""
