"""Tables as they come: fetching, reading, checking, units, splitting, statistics."""
