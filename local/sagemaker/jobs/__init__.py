"""What training, processing and transform jobs have in common."""
