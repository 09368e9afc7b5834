"""The local Snowflake: what the real connector talks to on this machine."""
