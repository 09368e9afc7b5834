"""Training on selected parts of the data: selection strategies, and the loop that they feed."""
