"""Tests of the comparison with the vendor's OpenAPI document, with a small document of our own."""
