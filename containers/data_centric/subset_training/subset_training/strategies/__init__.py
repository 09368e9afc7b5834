"""Selection strategies. `names.py` lists them."""
