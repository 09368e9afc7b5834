"""The local Snowflake, a server for the real Snowflake connector."""
