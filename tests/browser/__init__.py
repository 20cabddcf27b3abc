"""Tests in a real browser: ``make browser`` runs them. They need chromium and Playwright."""
