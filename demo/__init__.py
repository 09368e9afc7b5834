"""The demonstration: every architecture deployed to a cloud on this machine and run end to end."""
