"""Fine-tune a text-to-image pipeline for many users in one job, with an adapter for each user."""
