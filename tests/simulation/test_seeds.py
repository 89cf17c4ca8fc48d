"""Many seeded runs: whatever strikes, every invariant holds once things are quiet."""

import os

import pytest

from tests.simulation.run import simulate

# How much to run, and which run to repeat; no settings of the product.
SEEDS = int(os.environ.get("INTEGR8S_SEEDS", "200"))  # noqa: TID251
FIRST = int(os.environ.get("INTEGR8S_SEED", "0"))  # noqa: TID251

pytestmark = pytest.mark.simulate


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_every_invariant_holds(seed: int) -> None:
    """Crashes, lost answers, duplicates, outages: afterwards the evidence has no violation."""
    report = simulate(seed)

    assert report.is_good, str(report)


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_a_seed_repeats(seed: int) -> None:
    """The same seed gives the same calls, faults and times, to the last one."""
    assert simulate(seed).trace == simulate(seed).trace


def test_seeds_differ() -> None:
    """Another seed is another story."""
    assert simulate(1).trace != simulate(2).trace


def test_faults_strike() -> None:
    """A run without faults would prove nothing: over a few seeds every kind occurs."""
    traces = [line for seed in range(12) for line in simulate(seed).trace]

    assert {what for _, _, _, what in traces} >= {"slow", "refuse", "lose", "kill"}
    assert {call for _, who, call, _ in traces if who == "monkey"} >= {
        "kill",
        "kill_all",
        "make_zombie",
        "rewind",
        "repeat",
        "scale",
        "cut_an_engine",
        "strike_a_pod",
        "cut_watches",
    }
