"""The feeds, as a Chalice app."""
