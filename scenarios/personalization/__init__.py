"""Scenario of `personalization`, for a deployed stack, locally or on AWS: see `steps`.

Three users sign in at the same time, upload pictures, wait for their models, get the first pictures, and
generate more from the endpoint. Then users try to access other users' data, and a model is deleted. This
module imports nothing, because `pictures` also runs in an environment with few packages.
"""
