"""Label quality: consensus, label errors, duplicates, outliers and redundant examples."""
