"""Who is read for when: overviews one behind the other, whole rows and fields beside them."""

from twisted.internet.defer import CancelledError, Deferred

from sisock import DataNode
from sisock.answering import MAX_WAITING, READERS, Answers


class Roof(DataNode):
    name = "roof"


def test_overviews_are_made_one_behind_the_other_and_keep_nobody_else_waiting():
    begun = []

    def run(function, *args):
        begun.append((function.__name__, args[0], Deferred()))
        return begun[-1][2]

    node = Roof()
    answers = Answers(node, run, keeper=node)
    asked = [
        Deferred.fromCoroutine(answers.get_data(["a"], 1.0, 9.0, None, points)) for points in (10, 20, *[None] * READERS, 30)
    ]
    asked.append(Deferred.fromCoroutine(answers.get_data(["a"], 1.0, 9.0, step=1.0, method="mean")))
    asked.append(Deferred.fromCoroutine(answers.get_fields(1.0, 9.0)))
    assert [(name, getattr(given, "max_points", None)) for name, given, _ in begun] == [
        ("answer", 10),
        *[("answer", None)] * READERS,
        ("get_fields", None),
    ]
    overviews, at = [], 0
    while at < len(begun):
        name, given, ran = begun[at]
        if name == "answer" and given.is_overview:
            overviews.append(given.max_points)
        ran.callback([{}, {}] if name == "get_fields" else {"data": {}, "timeline": {}})
        at += 1
    assert overviews == [10, 20, 30, None]
    assert all(one.called for one in asked)


def test_calls_that_were_given_up_are_not_read():
    begun = []

    def run(function, *args):
        begun.append((args[0].max_points, Deferred()))
        return begun[-1][1]

    node = Roof()
    answers = Answers(node, run, keeper=node)
    asked = [Deferred.fromCoroutine(answers.get_data(["a"], 1.0, 9.0, None, 1 + points)) for points in range(MAX_WAITING + 1)]
    for one in asked[1:]:
        one.addErrback(lambda failure: failure.trap(CancelledError))
        one.cancel()
    late = Deferred.fromCoroutine(answers.get_data(["a"], 1.0, 9.0, None, 999))
    for _, ran in begun:
        ran.callback({"data": {}, "timeline": {}})
    assert [points for points, _ in begun] == [1, 999]
    assert late.called
