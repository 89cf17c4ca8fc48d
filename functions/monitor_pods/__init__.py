"""Waits for what the cluster does, decides what a pod's state means, says it as facts."""
