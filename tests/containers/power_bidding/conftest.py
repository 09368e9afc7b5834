"""The image of the architecture."""

collect_ignore = ["inside"]  # run by test_inside.py, with the packages of the image
