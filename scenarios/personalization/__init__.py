"""What people do with `personalization` once it is deployed, here or on AWS: `steps`.

Three people sign in at once, upload their pictures, watch their models train, look at the first pictures,
then ask the endpoint for more; somebody tries to reach what is another's; a model is deleted. Nothing is
imported here: `pictures` also runs in an environment that has the pictures and little else.
"""
