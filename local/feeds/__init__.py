"""A local server with the market operators' APIs and a simulated market, which replays real history.
See README.md."""
