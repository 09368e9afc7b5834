"""The rules, on plain values and the interfaces beside them."""
