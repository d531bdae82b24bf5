"""The schedule on random graphs: order, limits and nothing forgotten."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demist_app.engine.schedule import Job, Limits, Schedule

LIMITS = Limits(n_procs=4, memory_gb=1.0, n_gpu_procs=1)


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 12))
    jobs = [
        Job(
            node=None,
            name=str(number),
            order=(number,),
            n_procs=draw(st.integers(1, 6)),
            memory_gb=draw(st.sampled_from([0.1, 0.2, 0.3, 0.7, 1.0, 5.0])),
            gpu=draw(st.booleans()),
        )
        for number in range(size)
    ]
    edges = [
        (jobs[a], jobs[b]) for b in range(size) for a in range(b) if draw(st.integers(0, 3)) == 0
    ]
    return jobs, edges


@given(graphs(), st.data())
def test_every_job_runs_once_after_what_it_needs_and_within_limits(graph, data):
    jobs, edges = graph
    schedule = Schedule(jobs, edges, LIMITS)
    needs = {job: {first for first, second in edges if second is job} for job in jobs}
    running, done = [], []
    while not schedule.done:
        while job := schedule.start():
            assert needs[job] <= set(done)
            running.append(job)
            if len(running) > 1:
                assert sum(min(job.n_procs, 4) for job in running) <= 4
                assert sum(min(job.memory_gb, 1.0) for job in running) <= 1.0
                assert sum(job.gpu for job in running) <= 1
        job = running.pop(data.draw(st.integers(0, len(running) - 1)))  # there is always one
        schedule.finish(job)
        done.append(job)
    assert sorted(done, key=lambda job: job.order) == jobs


@given(graphs(), st.data())
def test_a_failure_drops_all_that_need_it_and_nothing_else(graph, data):
    jobs, edges = graph
    schedule = Schedule(jobs, edges, LIMITS)
    network = nx.DiGraph(edges)
    network.add_nodes_from(jobs)
    bad = data.draw(st.sets(st.sampled_from(jobs)))
    lost = set().union(*(nx.descendants(network, job) for job in bad))
    done, dropped = set(), []
    while not schedule.done:
        job = schedule.start()
        if job in bad:
            dropped += schedule.fail(job)
        else:
            schedule.finish(job)
        done.add(job)
    assert done == set(jobs) - lost
    assert set(dropped) == lost
    assert len(dropped) == len(lost)


def job(name, *order, n_procs=1):
    return Job(None, name, order, n_procs, 0.1, False)


def test_a_job_waits_for_its_parts():
    whole, after, other = job('whole', 0), job('after', 1), job('other', 2)
    schedule = Schedule([whole, after, other], [(whole, after)], Limits(1, 1.0))
    assert schedule.start() is whole
    parts = [job('part', 0, number) for number in range(2)]
    schedule.expand(whole, parts)
    order = []
    while not schedule.done:
        order.append(schedule.start())
        schedule.finish(order[-1])
    assert order == [*parts, whole, after, other]


def test_a_failed_part_drops_the_whole_but_not_the_other_parts():
    whole, after = job('whole', 0), job('after', 1)
    schedule = Schedule([whole, after], [(whole, after)], Limits(1, 1.0))
    schedule.start()
    parts = [job('part', 0, number) for number in range(2)]
    schedule.expand(whole, parts)
    assert schedule.fail(schedule.start()) == [whole, after]
    assert schedule.start() is parts[1]
    schedule.finish(parts[1])
    assert schedule.done


def test_a_job_that_does_not_fit_lets_others_pass():
    first, large, small = job('first', 0), job('large', 1, n_procs=2), job('small', 2)
    schedule = Schedule([small, large, first], [], Limits(2, 1.0))
    assert [schedule.start() for _ in range(3)] == [first, small, None]


def test_a_full_memory_is_free_again():
    # 0.1 + 0.2 - 0.2 - 0.1 is not 0 in floating point
    jobs = [
        Job(None, str(number), (number,), 1, memory, False)
        for number, memory in enumerate([0.1, 0.2, 0.3, 1.0])
    ]
    schedule = Schedule(jobs, [], Limits(3, 1.0))
    for running in [schedule.start() for _ in range(3)]:
        schedule.finish(running)
    assert schedule.start() is jobs[3]


@pytest.mark.parametrize('limits', [(0, 1.0, 1), (1, 0.0, 1), (1, float('nan'), 1), (1, 1.0, 0)])
def test_limits_that_let_nothing_run_are_refused(limits):
    with pytest.raises(ValueError, match='at least one'):
        Limits(*limits)
