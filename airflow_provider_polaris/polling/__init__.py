"""One poll for all the waits of a triggerer."""
