"""Container images without an engine: a Dockerfile becomes a folder, an environment and a command."""
