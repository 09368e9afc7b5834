"""The demonstration: deploys every architecture to a local cloud and runs its scenario."""
