"""The state and the work of the local Polaris: jobs, tables, files and the rows that jobs read."""
