"""The rules of onboarding and generation, on plain values and the ports of `ports.py`."""
