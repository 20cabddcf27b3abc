"""What a project has: jobs, tables, files and connections, and the specs that it takes."""
