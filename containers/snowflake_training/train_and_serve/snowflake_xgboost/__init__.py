"""Train XGBoost on a Snowflake table, and serve the model."""
