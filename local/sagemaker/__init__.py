"""The SageMaker that the emulator lacks: the control plane's operations and what they set in motion."""
