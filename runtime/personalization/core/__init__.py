"""Logic of onboarding and generation, on plain values and the interfaces of `ports.py`."""
