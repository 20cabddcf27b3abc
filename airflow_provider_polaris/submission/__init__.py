"""Creating a job once, across retries and clears, and what happens to the job of a task that is killed."""
