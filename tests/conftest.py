"""For every test: how hypothesis looks for counterexamples, here and in CI."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: what a machine with two busy cores takes says nothing of the code.
settings.register_profile("default", deadline=None)
settings.register_profile(
    "ci",
    parent=settings.get_profile("default"),
    derandomize=True,  # the same examples each time: a red run can be run again
    max_examples=60,
    database=None,  # a fresh clone has none
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)
