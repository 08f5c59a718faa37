"""When training ends: epochs that were cut short, and Ctrl-C.

What the rules make of whole epochs is in ``test_training``.
"""

import signal
import threading
from math import inf, nan

import pytest

from skgd._machine.interrupts import INTERRUPTED, interruptible
from skgd._training.stopping import (
    FAR_ABOVE,
    Best,
    Ending,
    History,
    Untrained,
    Verdict,
    begin_with,
    ending_of,
    judge,
    judge_end,
)


def judged(objectives, *, cut_short=False, tol=0.0, n_iter_no_change=2, adapts=False):
    """Return the history of whole epochs, the last of which may have been cut short."""
    history = History(untrained=Untrained(1.0, 1.0))
    for number, objective in enumerate(objectives, 1):
        history.objective.append(objective)
        history.loss.append(objective)
        history.cut_short = cut_short and number == len(objectives)
        judge(history, False, tol, n_iter_no_change, adapts)
    return history


RATES = {  # objectives of three rates, each but the first the last one's fifth
    "the second brings nothing": ([1.0, 0.5, 0.6, 0.5], [0.495, 0.5], None),
    "the second brings less noise": ([1.0, 0.5, 0.6, 0.5], [0.4, 0.4, 0.4], [0.4, 0.4]),
    "the first leads away": ([1.0, 5.0, 5.0], [4.0, 3.0], [2.0, 0.9, 0.9, 0.9]),
    "nothing brings anything": ([1.0, 1.0, 1.0], [1.0, 1.0], None),
}


@pytest.mark.parametrize(("first", "second", "third"), RATES.values(), ids=RATES)
def test_a_rate_adapts_as_long_as_that_brings_something(first, second, third):
    """Something is what was watched when the rate came, made better by tol."""
    rules = {"tol": 0.01, "adapts": True}
    assert judged(first, **rules).verdict is Verdict.SLOWED
    assert judged([*first, *second[:-1]], **rules).verdict is Verdict.GOES_ON
    after = judged([*first, *second], **rules)
    assert after.verdict is (Verdict.SLOWED if third else Verdict.SETTLED)
    if third:
        last = judged([*first, *second, *third], **rules)
        assert last.converged is (third[0] == second[-1])


FAR = 10 * FAR_ABOVE
UNSETTLED = {
    "settled": [1.0, 0.5, 0.6, 0.5],
    "diverged": [1.0, FAR, FAR + 1, FAR + 2, FAR + 3],
}


@pytest.mark.parametrize(("what", "objectives"), UNSETTLED.items(), ids=UNSETTLED)
def test_an_epoch_cut_short_neither_settles_nor_diverges(what, objectives):
    """What ends the training as a whole epoch does not as a part of one."""
    whole = judged(objectives, cut_short=False)
    part = judged(objectives, cut_short=True)

    assert (whole.converged, whole.diverged) == (what == "settled", what == "diverged")
    assert part.goes_on


@pytest.mark.parametrize("bad", [inf, nan])
def test_an_epoch_cut_short_with_no_number_has_diverged(bad):
    """A part of an epoch is enough to see that there is nothing left."""
    assert judged([1.0, 0.5, bad], cut_short=True).diverged


ENDS = {  # the losses of the epochs, that of the weights at the end, and how it is told
    "grows in the last steps": ([1.0, 1.0], 3 * FAR, "diverged"),
    "grows beyond all bounds at once": ([1.0], 2 * FAR_ABOVE**3, "diverged"),
    "a rough beginning": ([1.0], 3 * FAR, Ending.WORSE_THAN_CONSTANT),
    "has grown in the last epoch": ([1.0, 3 * FAR], 3 * FAR, "diverged"),
    "has grown, and fallen": ([1.0, 3 * FAR], FAR, Ending.WORSE_THAN_CONSTANT),
    "no number": ([1.0], nan, "diverged"),
    "far above, but at rest": ([FAR, FAR], FAR, Ending.WORSE_THAN_CONSTANT),
    "far above, and falling": ([9 * FAR, FAR], FAR, Ending.WORSE_THAN_CONSTANT),
    "grows within reach": ([0.01, 0.1], 0.9 * FAR_ABOVE, Ending.WORSE_THAN_CONSTANT),
    "near the best constant": ([5.0, 9.0], 9.0, Ending.UNREMARKABLE),
}


@pytest.mark.parametrize(("losses", "end", "how"), ENDS.values(), ids=ENDS)
def test_only_what_grows_far_above_a_constant_has_diverged(losses, end, how):
    """What does not grow is kept, however large its loss, and told of."""
    history = judged(losses, cut_short=False, tol=None)
    judge_end(history, end)

    assert history.diverged is (how == "diverged")
    assert history.diverged or ending_of(history, settles=False) is how


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_rule_has_no_scale(scale):
    """A loss is held against what else could have been had, in the same units."""
    history = History(loss=[scale, 3 * FAR * scale])
    history.untrained = Untrained(scale, scale)
    history.objective = history.loss
    judge_end(history, 4 * FAR * scale)

    assert history.diverged


def test_weights_that_were_not_trained_are_left_for_a_better_loss():
    """They may score well by chance, as where one class is predicted for every row."""
    kept = []
    for anew in (True, False):
        history = History(score=[0.8], validation_loss=[0.3])
        history.objective = history.loss = [0.4]
        begin_with(history, value=-0.9, loss=0.7, t=0, anew=anew)
        judge(history, True, 0.0, 5)
        kept.append(history.memory.improved)

    assert kept == [True, False]


def test_held_out_rows_are_seen_after_an_epoch_cut_short():
    """They are judged whole, so weights that do best then are the best."""
    history = History(objective=[1.0, 2.0], loss=[1.0, 2.0], validation_loss=[1.0, 0.5])
    history.memory.best, history.cut_short = Best(1.0), True
    judge(history, True, 0.0, 2)

    assert history.memory.improved
    assert history.best == 0.5


# Ctrl-C


def test_an_interrupt_is_put_off():
    """Ctrl-C raises nothing in the block, and is told from then on."""
    with interruptible() as interrupted:
        assert interrupted() == ""
        signal.raise_signal(signal.SIGINT)
        assert interrupted() == interrupted() == INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_told_after_the_block_as_well():
    """Pressed too late for anyone in the block, it is not lost."""
    with interruptible() as interrupted:
        assert interrupted() == ""
        signal.raise_signal(signal.SIGINT)
    assert interrupted() == INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_not_lost_in_an_error_of_the_block():
    """Who goes on after the error, as a search does, would not hear of it."""
    with pytest.raises(KeyboardInterrupt) as raised, interruptible():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        _ = 1 / 0
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_interrupts():
    """It raises, and Python's handler is back, even before the block has ended."""
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            inside = signal.getsignal(signal.SIGINT)
    assert inside is signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_is_back_after_an_error():
    """Whatever the block raises, the handler is Python's own again."""
    with pytest.raises(ZeroDivisionError), interruptible():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, lambda number, frame: None])
def test_a_handler_of_someone_else_is_left_alone(theirs):
    """Where Ctrl-C does not interrupt as ever, it is not ours to put off."""
    signal.signal(signal.SIGINT, theirs)
    with interruptible() as interrupted:
        assert signal.getsignal(signal.SIGINT) is theirs
        signal.raise_signal(signal.SIGINT)
        assert interrupted() == ""
    assert signal.getsignal(signal.SIGINT) is theirs


def test_other_threads_touch_no_handler():
    """Outside the main thread signals cannot be handled, and nothing is tried."""
    seen = []

    def block():
        with interruptible() as interrupted:
            seen.append((signal.getsignal(signal.SIGINT), interrupted()))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [(signal.default_int_handler, "")]


def test_blocks_may_be_nested():
    """The outer block has the handler; the inner one lets it be."""
    with interruptible() as outer:
        with interruptible() as inner:
            signal.raise_signal(signal.SIGINT)
            assert inner() == ""
        assert outer() == INTERRUPTED
