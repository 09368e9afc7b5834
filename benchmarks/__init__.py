"""Side-by-side measurements against the known way of doing the same."""
