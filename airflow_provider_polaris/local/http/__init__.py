"""The HTTP side of the local Polaris: calls, errors, the page, and faults on demand."""
