"""Lambda handlers: parse the event, call `core`, return."""
