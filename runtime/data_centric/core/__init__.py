"""Logic of the workflow, on plain values and on interfaces that `aws` implements."""
