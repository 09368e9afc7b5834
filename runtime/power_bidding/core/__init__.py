"""Logic of the bidding service, on plain values and interfaces that `aws` implements."""
