"""The workflow's rules. They depend on plain values and on interfaces that `aws` implements."""
