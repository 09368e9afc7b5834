"""Settings of hypothesis."""

from __future__ import annotations

from hypothesis import settings

# The duration of an example depends on what else the machine does
settings.register_profile("groundplan", deadline=None)
settings.load_profile("groundplan")
