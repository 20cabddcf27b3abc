"""Links of the Imply Polaris provider."""
