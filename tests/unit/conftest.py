"""Settings of hypothesis."""

from __future__ import annotations

from hypothesis import settings

# There is no deadline for Hypothesis's examples, because their duration depends on the load of the machine
settings.register_profile("groundplan", deadline=None)
settings.load_profile("groundplan")
