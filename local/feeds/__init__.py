"""The operators' APIs and a market of ours on the laptop: real history, replayed on a clock of its own.
See README.md."""
