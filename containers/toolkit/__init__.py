"""SageMaker's interface to containers, implemented once for all images.

This package is copied into each image. It uses the standard library only and runs on Python 3.11 to 3.13.
"""
