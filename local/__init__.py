"""The local cloud: AWS's own templates and SDKs, answered on this machine."""
