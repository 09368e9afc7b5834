"""What a fresh machine needs before anything else can run. Standard library only."""
