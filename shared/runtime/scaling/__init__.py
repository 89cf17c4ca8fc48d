"""What KEDA and the HPA would decide, computed from the YAML files that KEDA reads."""

from shared.runtime.scaling.hpa import CLUSTER, Tempo
from shared.runtime.scaling.manifests import ManifestError, load, parse
from shared.runtime.scaling.objects import (
    PREWAKE,
    CronTrigger,
    KafkaTrigger,
    MongoTrigger,
    ScaledObject,
    Trigger,
    WorkloadTrigger,
)
from shared.runtime.scaling.readings import Count, Failed, Positions, Reading, Unbuildable
from shared.runtime.scaling.scaler import Decision, Scaler

__all__ = [
    "CLUSTER",
    "PREWAKE",
    "Count",
    "CronTrigger",
    "Decision",
    "Failed",
    "KafkaTrigger",
    "ManifestError",
    "MongoTrigger",
    "Positions",
    "Reading",
    "ScaledObject",
    "Scaler",
    "Tempo",
    "Trigger",
    "Unbuildable",
    "WorkloadTrigger",
    "load",
    "parse",
]
