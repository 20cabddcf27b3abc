"""Where rows come from and where they are: files, connections, and the database."""
