"""What the local Polaris does: jobs, tables, files and the rows that it reads."""
