"""Training on subsets of the data: selection strategies and the training loop."""
