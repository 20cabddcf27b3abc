"""Answer queries."""
