"""Serve thousands of personalized models with one resident text-to-image pipeline, in Triton."""
