"""What people do with the deployed personalization: bring pictures, wait for their model, use it."""
