"""The local cloud: a server that answers the AWS API on this machine, for unchanged templates and SDKs."""
