"""A task's wait for a job: on a worker, and its transfer to the triggerer and back."""
