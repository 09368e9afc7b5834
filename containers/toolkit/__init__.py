"""SageMaker's container contract, shared by all images.

Copied into each image next to its package. Uses the standard library only; runs on Python 3.11 to 3.13.
"""
