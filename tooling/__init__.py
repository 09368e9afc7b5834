"""Set-up of a new machine: Python environments, Node, CDK CLI, Lambda layer. Standard library only."""
