"""Fine-tune a text-to-image pipeline for many users in one job: an adapter for each of them."""
