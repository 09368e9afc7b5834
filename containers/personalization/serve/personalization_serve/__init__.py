"""Thousands of personalized models on one resident text-to-image pipeline, served by Triton."""
