"""A local server that replays real history through the market operators' APIs, with a simulated market.

See README.md.
"""
