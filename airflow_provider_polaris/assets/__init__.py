"""Assets: the loads that start other DAGs."""
