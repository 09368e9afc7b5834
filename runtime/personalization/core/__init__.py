"""Logic of training users' models and generating pictures, on plain values and the interfaces of
`ports.py`."""
