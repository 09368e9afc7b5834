"""Train XGBoost straight from a Snowflake table, and serve what was trained."""
