"""The list of jobs is read in pages that can be read."""

from __future__ import annotations

from airflow_provider_polaris.polling.list_policy import LIST_RETRY_SECONDS, JobListPolicy


def test_pages_stay_small_for_ten_minutes_and_then_grow_step_by_step():
    policy = JobListPolicy()
    assert policy.page_limit(0) == 1000
    policy.record_page_limit(1000, 0)
    policy.record_page_limit(125, 60)
    assert policy.page_limit(60 + LIST_RETRY_SECONDS - 1) == 125
    policy.record_page_limit(125, 500)
    later = 60 + LIST_RETRY_SECONDS
    assert policy.page_limit(later) == 250
    policy.record_page_limit(125, later)  # the larger page was too large again
    assert policy.page_limit(later + 1) == 125
    for growth in range(1, 5):
        at = later + growth * LIST_RETRY_SECONDS
        policy.record_page_limit(policy.page_limit(at), at)
    assert policy.page_limit(at) == 1000


def test_a_process_logs_each_cause_once_whatever_the_number_of_polls(caplog):
    """A poll ends with its last wait. The next one, an hour later, meets the same list."""
    for _ in range(3):
        JobListPolicy().give_up(50, 0.0, "it cannot be read: HTTP 403")
        JobListPolicy().give_up(50, 0.0, "it cannot be read: HTTP 404")
    JobListPolicy().give_up(50, 0.0, "it does not show jobs that are active")
    assert [record.getMessage().partition(": ")[2][:20] for record in caplog.records] == [
        "it cannot be read: H",
        "it does not show job",
    ]
