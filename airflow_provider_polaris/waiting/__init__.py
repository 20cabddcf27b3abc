"""Waiting for a job: on a worker, and what hands a wait over to the triggerer and back."""
