"""The plan of the shared poll: no wait ends wrongly, is forgotten, or costs more than its part of one request."""

from __future__ import annotations

import logging
import math
import random
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_polaris.api.client import RawPage
from airflow_provider_polaris.api.errors import PolarisForbidden, PolarisResponseTooLarge, PolarisUnreachable
from airflow_provider_polaris.polling.list_policy import PAGE_COST
from airflow_provider_polaris.polling.messages import AskEnded, AskJob
from airflow_provider_polaris.polling.poll_plan import ROWS_AT_ONCE
from airflow_provider_polaris.polling.polled_wait import SLOW_SERVICE_PAUSE_RATIO, Pace, PolledWait
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.poll_simulation import Service, Simulation

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="the plan uses nothing of Airflow: one version is enough")

INTERVAL = 30.0
DAY = 86_400.0
HOUR = 3600.0


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    """Log nothing: each of a thousand examples would log its warnings."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


SEEDS = pytest.mark.parametrize("seed", range(8))

FAULTS = [
    "outages", "bad answers", "404 at first", "bad lists", "left out", "twice", "any order", "forbidden",
    "stale for ever", "stale for a while", "hangs", "busy", "over too early",
]  # fmt: skip
#: Faults after which an end may be noticed later than at the next poll.
DELAYING = {"outages", "bad answers", "404 at first", "bad lists", "hangs", "busy"}
WAITS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.0, 1.0, 47.0, 130.0]),  # when it begins
        st.sampled_from([1.0, 60.0, 61.0, 190.0, 333.0, 700.0]),  # how long after that its job ends
        st.sampled_from(["completed", "failed", "canceled"]),
        st.sampled_from([None, None, None, 0.0, 31.0, 120.0]),  # after how long the trigger is cancelled
        st.booleans(),  # whether a second wait is for the same job
        st.sampled_from([INTERVAL, INTERVAL, 5.0, 300.0]),  # its interval
        st.booleans(),  # whether the interval doubles
    ),
    min_size=1,
    max_size=45,
)


@settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    waits=WAITS,
    faults=st.sets(st.sampled_from(FAULTS), max_size=4),
    others=st.sampled_from([0, 0, 60]),
    page_size=st.sampled_from([7, 20, 1000]),
    takes=st.sampled_from([(0.01, 0.5), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0)]),
    seed=st.integers(0, 2**32),
)
def test_every_wait_ends_as_its_job_does_whatever_fails(waits, faults, others, page_size, takes, seed):
    random.seed(seed)
    service = Service(seed, frozenset(faults), page_size)
    service.takes = takes
    poll = Simulation(service)
    waiters = []

    def begin(job_id, interval, leaves, *, backs_off=False):
        waiter = poll.wait(job_id, interval, backs_off=backs_off)
        waiters.append((waiter, poll.now))
        if leaves is not None:
            poll.at(poll.now + leaves, lambda: poll.leave(waiter))

    for number, (begins, lasts, kind, leaves, twice, interval, backs_off) in enumerate(waits):
        job_id = service.add(f"job-{number}", begins + lasts, kind)
        poll.at(begins, partial(begin, job_id, interval, leaves, backs_off=backs_off))
        if twice:
            poll.at(begins + 5, partial(begin, job_id, INTERVAL, None))
    for number in range(others):
        service.add(f"other-{number}", math.inf)
    poll.run(until=6200)

    assert not poll.waiters, "every wait ends"
    shortest_common = max(waiter.interval for waiter, _ in waiters)
    for waiter, began in waiters:
        if waiter.ended_at is None:
            continue
        end = service.ends[waiter.job_id]
        assert waiter.ended_as == service.kinds[waiter.job_id], "a wait ends as its job did"
        assert waiter.ended_at >= end, "a wait ends after its job"
        if not faults & DELAYING:
            # A list that hides one end is found out when it is that job's turn to be requested beside the list.
            turns = len(waiters) + 2 if faults & {"stale for ever", "stale for a while"} else 0
            longest = max(waiter.interval, 60.0 if waiter.wait.pace.interval > waiter.interval else 0)
            late = waiter.ended_at - max(end, began)
            assert late <= longest + 10 + turns * shortest_common, f"{late:.0f} s late"


def test_a_list_that_shows_jobs_as_running_that_are_over_is_given_up_at_the_second_poll():
    service = Service(faults=frozenset({"stale for ever"}))
    poll = Simulation(service)
    waiters = [poll.wait(service.add(f"job-{number}", 5.0)) for number in range(40)]
    poll.run(until=1000)
    assert max(waiter.ended_at for waiter in waiters) <= 2 * INTERVAL + 10


@pytest.mark.parametrize(("waits", "kind"), [(1, "id"), (40, "list")], ids=["by id", "by list"])
def test_a_service_that_is_slower_than_the_interval_gets_a_pause_after_each_response(waits, kind):
    service = Service()
    service.takes = (1.5 * INTERVAL, 2 * INTERVAL)
    poll = Simulation(service)
    ended = []
    heard = poll.plan.heard

    def heard_at(question, answer, now):
        if ("id" if isinstance(question, AskJob) else "list") == kind:
            ended.append(now)
        return heard(question, answer, now)

    poll.plan.heard = heard_at
    for number in range(waits):
        poll.wait(service.add(f"job-{number}", math.inf))
    poll.run(until=19 * INTERVAL)
    begun = [moment for moment, what, _ in poll.asked if what == kind]
    pauses = [min(begin - end for begin in begun if begin >= end) for end in ended[:-1]]
    assert len(pauses) >= 5
    assert min(pauses) >= 0.9 * SLOW_SERVICE_PAUSE_RATIO * INTERVAL


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_slow_service_gets_its_pause_from_several_waits_for_one_job(count):
    service = Service()
    service.takes = (15.0, 15.0)
    poll = Simulation(service)
    for number in range(count):
        poll.at(3.0 * number, lambda: poll.wait(service.add("a", math.inf), 10.0))
    poll.run(until=500)
    pauses = [after - before - 15.0 for (before, *_), (after, *_) in pairwise(poll.asked)]
    assert len(pauses) > 20
    assert min(pauses) >= 0.9 * SLOW_SERVICE_PAUSE_RATIO * 10


def test_500_jobs_that_end_one_by_one_cost_one_request_each():
    service = Service()
    poll = Simulation(service)
    waiters = [poll.wait(service.add(f"job-{number}", 100 + number * 7.0)) for number in range(500)]
    poll.run(until=2 * HOUR)
    assert max(waiter.ended_at - service.ends[waiter.job_id] for waiter in waiters) <= INTERVAL + 2
    # The list and one job beside it per interval, one request per end, and the last ten jobs by id.
    intervals = (100 + 500 * 7) / (0.9 * INTERVAL)
    assert len(poll.asked) <= 2 * intervals + 500 + 10 * 5


class TestManyJobsThatEndTogether:
    WAITS = 300

    def ended(self, service, **options):
        """Let many jobs end at once, between the first poll and the second. Return the simulation and its waiters."""
        random.seed(1)
        poll = Simulation(service, slots=6)
        waiters = [poll.wait(service.add(f"job-{number}", 100.0), **options) for number in range(self.WAITS)]
        poll.run(until=100 + INTERVAL + 30, stop=lambda: not poll.waiters)
        assert {waiter.ended_as for waiter in waiters} == {"completed"}
        return poll, waiters

    def test_one_page_of_the_list_of_ended_jobs_ends_all_waits(self):
        poll, waiters = self.ended(Service())
        assert [what for _, kind, what in poll.asked_since(100) if kind == "ended list"] == [0]
        assert len(poll.asked_since(100, "id")) <= 2, "the job beside the list"
        assert max(waiter.ended_at for waiter in waiters) <= 100 + INTERVAL + 2

    @pytest.mark.parametrize(("ends", "lists"), [(PAGE_COST, 0), (PAGE_COST + 1, 1)])
    def test_few_jobs_are_requested_by_id(self, ends, lists):
        service = Service()
        poll = Simulation(service)
        # The jobs beside the first lists come in turn, from the first on.
        for number in range(self.WAITS):
            poll.wait(service.add(f"job-{number}", 100.0 if number >= self.WAITS - ends else math.inf))
        poll.run(until=200)
        assert len(poll.asked_since(0, "ended list")) == lists
        assert len(poll.waiters) == self.WAITS - ends

    def test_a_job_whose_request_by_id_is_under_way_is_not_looked_for_in_the_list(self):
        class HangingJob(Service):
            def delay(self, question, now):
                return 50.0 if isinstance(question, AskJob) and question.job_id == "job-250" else 0.01

        random.seed(1)
        poll = Simulation(HangingJob(), slots=6)
        for number in range(self.WAITS):
            poll.wait(poll.service.add(f"job-{number}", 100.0))
        wanted = []
        page = poll.service.ended_page
        poll.service.ended_page = lambda question, now: wanted.append(question.wanted) or page(question, now)
        poll.run(until=99)
        next(waiter for waiter in poll.waiters.values() if waiter.job_id == "job-250").wait.check_at(99)
        poll.run(until=160)
        assert [len(keys) for keys in wanted] == [self.WAITS - 2], "all but that job, and the job beside the list"
        assert "job-250" not in wanted[0]
        assert not poll.waiters

    def test_jobs_that_a_page_does_not_show_are_requested_by_id(self):
        class OtherJobs(Service):
            def ended_page(self, question, now):
                page = super().ended_page(question, now)
                shown = dict(list(page.rows.items())[:PAGE_COST])
                return RawPage(shown, page.size, more=True)

        poll, _ = self.ended(OtherJobs())
        assert len(poll.asked_since(100, "ended list")) == 1, "a page that shows ten jobs is not worth another page"
        assert len(poll.asked_since(100, "id")) >= self.WAITS - PAGE_COST

    def test_more_pages_are_read_while_each_shows_many_jobs(self):
        service = Service(page_size=100)
        for number in range(500):
            service.add(f"older-{number}", 50.0)
        poll, _ = self.ended(service)
        assert len(poll.asked_since(100, "ended list")) == 3
        assert len(poll.asked_since(100, "id")) <= 2

    @pytest.mark.parametrize(
        "error",
        [PolarisForbidden("no", status=403), PolarisUnreachable("busy", status=429), PolarisResponseTooLarge("large")],
        ids=["forbidden", "busy", "too large"],
    )
    def test_an_error_of_the_list_leaves_all_jobs_to_requests_by_id(self, error):
        class NoEndedList(Service):
            def ended_page(self, question, now):
                return error

        poll, _ = self.ended(NoEndedList())
        tries = poll.asked_since(100, "ended list")
        assert len(tries) == (7 if isinstance(error, PolarisResponseTooLarge) else 1), "1,000, 500, … 15 jobs a page"
        assert len(poll.asked_since(100, "id")) >= self.WAITS

    def test_a_page_that_is_too_large_is_read_in_smaller_pages(self):
        class LargeJobs(Service):
            def ended_page(self, question, now):
                return PolarisResponseTooLarge("large") if question.limit > 100 else super().ended_page(question, now)

        poll, _ = self.ended(LargeJobs())
        assert len(poll.asked_since(100, "ended list")) == 4 + 5, "1,000, 500, 250 and 125 are too many, 62 are not"
        assert len(poll.asked_since(100, "id")) <= 2

    def test_a_list_that_shows_running_jobs_as_over_ends_no_wait(self):
        class Wrong(Service):
            def page(self, question, now):
                return RawPage({}, 0, more=False)

            def ended_page(self, question, now):
                rows = {key: self.row(key, "completed") for key in question.wanted}
                return RawPage(rows, len(rows), more=False)

        random.seed(1)
        poll = Simulation(Wrong(), slots=6)
        waiters = [poll.wait(poll.service.add(f"job-{number}", 500.0)) for number in range(30)]
        poll.run(until=400)
        assert len(poll.waiters) == 30
        assert {waiter.unconfirmed for waiter in waiters} <= {0, 1}
        assert any(waiter.unconfirmed for waiter in waiters)
        poll.run(until=600)
        assert {waiter.ended_as for waiter in waiters} == {"completed"}
        assert min(waiter.ended_at for waiter in waiters) >= 500

    def test_rows_of_the_list_that_are_not_over_or_cannot_be_read_leave_their_jobs_to_requests_by_id(self):
        class Odd(Service):
            def ended_page(self, question, now):
                odd = [{"executionStatus": "running"}, {"executionStatus": 5}, {}]
                rows = {key: {"id": key, **odd[n % 3]} for n, key in enumerate(sorted(question.wanted))}
                return RawPage(rows, len(rows), more=False)

        poll, waiters = self.ended(Odd())
        assert not any(waiter.unconfirmed for waiter in waiters)
        assert len(poll.asked_since(100, "id")) >= self.WAITS

    def test_no_call_of_the_plan_notifies_more_than_a_hundred_waits(self):
        service = Service()
        poll = Simulation(service)
        for number in range(self.WAITS):
            poll.wait(service.add(f"job-{number}", 100.0))
        due, most = poll.plan.due, []

        def counted(*now):
            step = due(*now)
            most.append(len(step.notices))
            assert not poll.plan._ended_rows or step.wake_at == poll.now, "it asks for another call at once"
            return step

        poll.plan.due = counted
        poll.run(until=140)
        assert not poll.waiters
        assert 50 < max(most) <= ROWS_AT_ONCE

    def test_retry_after_of_the_list_is_respected_and_the_second_time_the_jobs_are_requested_by_id(self):
        class Busy(Service):
            def ended_page(self, question, now):
                return PolarisUnreachable("busy", status=429, retry_after=30)

        random.seed(1)
        poll = Simulation(Busy(), slots=6)
        for number in range(self.WAITS):
            poll.wait(poll.service.add(f"job-{number}", 100.0))
        poll.run(until=300)
        assert not poll.waiters
        first, second = (at for at, *_ in poll.asked_since(100, "ended list"))
        assert second - first >= 30
        by_id = [at for at, *_ in poll.asked_since(first + 1, "id")]
        assert sum(at < second + 30 for at in by_id) <= 2, "the jobs beside the lists"
        assert len(by_id) >= self.WAITS - 5

    def test_a_list_that_hangs_delays_its_jobs_by_one_interval_and_no_other_wait(self):
        class Hanging(Service):
            def delay(self, question, now):
                return 300.0 if isinstance(question, AskEnded) else 0.1

        random.seed(1)
        poll = Simulation(Hanging(), slots=6)
        ends = [130.0 if number < 5 else 100.0 if number >= 85 else math.inf for number in range(100)]
        waiters = [poll.wait(poll.service.add(f"job-{number}", end), 5.0) for number, end in enumerate(ends)]
        poll.run(until=300)
        late = {waiter.ended_at - end for waiter, end in zip(waiters, ends, strict=True) if end < math.inf}
        assert max(late) <= 2 * 5 + 1
        assert max(waiter.ended_at for waiter in waiters[:5]) <= 130 + 5 + 1

    def test_every_deadline_is_kept_while_the_list_hangs(self):
        class Hanging(Service):
            def delay(self, question, now):
                return 60.0 if isinstance(question, AskEnded) else 0.01

        random.seed(1)
        service = Hanging()
        poll = Simulation(service, slots=6)
        waiters = [poll.wait(service.add(f"job-{number}", 100.0), lasts=140.0 + number / 10) for number in range(30)]
        poll.run(until=100 + INTERVAL, stop=lambda: bool(poll.asked_since(100, "ended list")))
        poll.run(until=poll.now + 59)
        assert {waiter.ended_as for waiter in waiters} == {"completed"}
        assert max(waiter.ended_at for waiter in waiters) <= 145


@pytest.mark.parametrize(
    ("status", "ends_wait", "notifies"),
    [("completed", True, True), ("completed", False, False), ("running", True, False), (5, True, False)],
    ids=["over", "the wait goes on", "not over", "no status"],
)
def test_a_row_of_the_list_of_ended_jobs_ends_a_wait_only_if_its_job_is_over(status, ends_wait, notifies):
    wait = PolledWait("j", lambda job: ends_wait, Pace(INTERVAL), math.inf, now=0.0, takes_list=True)
    notice = wait.heard_ended({"id": "j", "executionStatus": status})
    assert (notice is not None) == notifies


@pytest.mark.parametrize("active", [1100, 2500, 9000])
@pytest.mark.parametrize(
    ("waits", "second_group_after"),
    [(300, None), (500, None), (1000, None), (600, 3.0), (600, 100.0)],
    ids=["300", "500", "1000", "two groups within an interval", "two groups"],
)
def test_waits_that_begin_one_by_one_cost_no_more_than_the_list_from_the_second_interval_on(
    active, waits, second_group_after
):
    """Airflow starts triggers one after another. The first list is read while most of the waits are still to come."""
    service = Service()
    service.takes = (0.02, 0.04)
    for number in range(active):
        service.add(f"job-{number}", math.inf)
    begins = [0.002 * number for number in range(waits)]
    if second_group_after is not None:
        begins[waits // 2 :] = [second_group_after + moment for moment in begins[waits // 2 :]]
    poll = Simulation(service)
    for number, moment in enumerate(begins):
        poll.at(moment, lambda number=number: poll.wait(f"job-{active - 1 - number}"))
    settled = begins[-1] + INTERVAL
    poll.run(until=settled + 10 * INTERVAL)
    pages = -(-active // service.page_size)
    # Ten intervals hold at most twelve polls: each poll is up to a tenth of an interval early.
    assert len(poll.asked_since(settled)) <= 12 * (pages + 2)


def test_the_backoff_of_a_wait_is_not_driven_by_other_waits():
    """A list that is of no use is tried again and again, for the sake of the others."""

    class EndlessList(Service):
        def page(self, question, now):
            return RawPage({}, 1000, more=True)

    service = EndlessList()
    poll = Simulation(service)
    for number in range(14):
        poll.wait(service.add(f"job-{number}", 6 * HOUR if number < 5 else math.inf), 60.0)
    last = poll.wait(service.add("last", 7 * HOUR), 60.0, backs_off=True)
    last.wait.pace._most = math.inf
    poll.run(until=16 * HOUR, stop=lambda: last.ended_at is not None)
    assert last.ended_as == "completed"
    assert last.ended_at <= 15 * HOUR, "only its own pauses have doubled"


@pytest.mark.parametrize("count", [5, 200], ids=["by id", "by list"])
def test_an_outage_costs_two_requests_per_interval_and_every_wait_is_notified(count):
    class Down(Service):
        def answer(self, question, now, took):
            return PolarisUnreachable("down", status=503) if 100 <= now < 700 else super().answer(question, now, took)

    random.seed(1)
    poll = Simulation(Down(), slots=6)
    waiters = [poll.wait(poll.service.add(f"job-{number}", 650.0)) for number in range(count)]
    heard = dict.fromkeys(waiters, 0)
    for waiter in waiters:
        failed = waiter.tolerance.failed

        def count_failure(error, now, waiter=waiter, failed=failed):
            heard[waiter] += 1
            return failed(error, now)

        waiter.tolerance.failed = count_failure
    poll.run(until=200)
    poll.run(until=700)
    intervals = 500 / (0.9 * INTERVAL)
    assert len(poll.asked_since(200)) <= 2 * intervals + 2
    assert min(heard.values()) >= 500 / INTERVAL / 2
    poll.run(until=700 + INTERVAL + 10)
    assert not poll.waiters, "all are served within an interval of its end"


@SEEDS
def test_a_wait_is_still_polled_if_other_waits_leave_during_an_outage(seed):
    class Down(Service):
        def job(self, job_id, now):
            return PolarisUnreachable("down", status=503) if 100 <= now < 330 else super().job(job_id, now)

    random.seed(seed)
    service = Down(seed)
    poll = Simulation(service)
    for number in range(9):
        poll.wait(service.add(f"job-{number}", math.inf), 300.0, lasts=300)
    last = poll.wait(service.add("last", 331.0), 300.0)
    poll.run(until=DAY)
    assert last.ended_as == "completed"
    assert last.ended_at <= 631


@SEEDS
def test_a_job_is_still_polled_if_its_request_is_under_way_when_the_list_is_read_again(seed):
    class Forbidden(Service):
        def page(self, question, now):
            return PolarisForbidden("no", status=403) if now < 100 else super().page(question, now)

    random.seed(seed)
    service = Forbidden(seed)
    service.takes = (1.0, 1.0)
    poll = Simulation(service, slots=6)
    for number in range(10):
        poll.wait(service.add(f"job-{number}", math.inf), HOUR)
    short = poll.wait(service.add("short", 700.0), 5.0)
    poll.run(until=HOUR, stop=lambda: short.ended_at is not None)
    assert short.ended_at <= 708


@SEEDS
def test_a_job_that_ends_while_two_others_have_faults_of_their_own_is_noticed_in_time(seed):
    class TwoFail(Service):
        def job(self, job_id, now):
            return (
                PolarisUnreachable("this job only", status=503)
                if job_id in {"job-5", "job-6"}
                else super().job(job_id, now)
            )

    random.seed(seed)
    service = TwoFail(seed)
    poll = Simulation(service, slots=6)
    waiters = [poll.wait(service.add(f"job-{number}", math.inf)) for number in range(30)]
    poll.run(until=DAY, stop=lambda: poll.asked and poll.asked[-1][2] == "job-5")
    service.ends["job-0"] = poll.now + 1
    poll.run(until=poll.now + 10 * INTERVAL)
    assert waiters[0].ended_at - service.ends["job-0"] <= INTERVAL + 1


def test_waits_are_polled_by_id_in_time_while_the_list_hangs():
    class HangingList(Service):
        def delay(self, question, now):
            return 60.0 if now > 50 and not isinstance(question, AskJob) else 0.01

    random.seed(1)
    service = HangingList()
    poll = Simulation(service, slots=6)
    waiters = [poll.wait(service.add(f"job-{number}", math.inf), 5.0) for number in range(11)]
    poll.run(until=100, stop=lambda: bool(poll.asked_since(50, "list")))
    poll.run(until=poll.now + 6)
    left_at = poll.now
    poll.leave(waiters[10])
    poll.run(until=left_at + 20)
    assert poll.asked_since(left_at)[0][0] - left_at <= 5


def test_a_wall_clock_that_is_set_forward_while_the_list_is_late_ends_every_wait_at_its_deadline():
    service = Service()
    service.takes = (8.0, 8.0)
    poll = Simulation(service, slots=6)
    waiters = [poll.wait(service.add(f"job-{number}", math.inf), 5.0, lasts=10 * HOUR) for number in range(12)]
    poll.run(until=31)
    poll.wall_offset += 11 * HOUR
    poll.run(until=100)
    assert {waiter.ended_as for waiter in waiters} == {"timeout"}
    assert max(waiter.ended_at for waiter in waiters) <= 60


@pytest.mark.parametrize("jump", [4000.0, -4000.0], ids=["forward", "back"])
def test_a_wall_clock_that_jumps_changes_no_pause(jump):
    service = Service()
    service.takes = (1.0, 1.0)
    poll = Simulation(service, slots=6)
    poll.wait(service.add("long", math.inf), HOUR)
    short = poll.wait(service.add("short", 100.0), 5.0)
    poll.run(until=DAY, stop=lambda: [what for *_, what in poll.asked].count("short") == 4)
    poll.wall_offset += jump
    poll.run(until=200)
    assert short.ended_at <= 107


def test_a_service_that_hangs_does_not_make_the_plan_spin():
    class Hanging(Service):
        def delay(self, question, now):
            return 60.0 if now > 25 else 0.01

    random.seed(1)
    service = Hanging()
    poll = Simulation(service, slots=6)
    for number in range(10):
        poll.at(0.3 * number, lambda number=number: poll.wait(service.add(f"job-{number}", math.inf), 5.0))
    poll.run(until=1250)
    assert len(poll.asked_since(100)) <= 6 * 1150 / 60 + 6


def test_the_pause_of_retry_after_is_kept_if_new_waits_begin():
    class Busy(Service):
        def job(self, job_id, now):
            busy = PolarisUnreachable("busy", status=429, retry_after=30)
            return busy if now > 100 else super().job(job_id, now)

    random.seed(1)
    service = Busy()
    service.takes = (0.01, 0.01)
    poll = Simulation(service, slots=6)
    for number in range(6):
        poll.at(0.8 * number, lambda number=number: poll.wait(service.add(f"job-{number}", math.inf), 5.0))
    for number in range(4):
        poll.at(104.8 + 6 * number, lambda number=number: poll.wait(service.add(f"new-{number}", math.inf), 5.0))
    poll.run(until=130)
    assert len([moment for moment, *_ in poll.asked_since(100) if moment < 125]) <= 4
