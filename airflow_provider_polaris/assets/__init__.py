"""Assets and data lineage: how the tables and files of a Polaris project are named outside of Polaris."""
