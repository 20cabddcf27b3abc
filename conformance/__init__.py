"""Compare the local Polaris with the vendor's OpenAPI document: ``python -m conformance FILE``."""
