"""Recovered = rate under attack / rate of the original model, and what that is worth."""

from math import sqrt

from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.results import Estimate


def recovered(attacked: Estimate, original: Estimate) -> Estimate | None:
    """The ratio of two rates; None where the original's own could be 0.

    It is above 1 where an attack draws more than the original does unasked.

    The interval is MOVER-R's, from those of both rates: Donner and Zou, *Closed-form confidence
    intervals for functions of the normal mean and standard deviation* (2012).  It needs no
    replicates, so it is of use where a rate is 0 or 1, which it often is.  It takes both for
    independent: where the same prompts are hard for both, it is too wide.
    """
    if original.interval is None or attacked.interval is None or original.interval.low <= 0:
        return None
    p, q = attacked.value, original.value
    of_p, of_q = attacked.interval, original.interval
    low, high = _end(p, of_p.low, q, of_q.high, -1), _end(p, of_p.high, q, of_q.low, 1)
    return Estimate(p / q, Interval(low, high))


def _end(p: float, p_end: float, q: float, q_end: float, side: int) -> float:
    """One end of the ratio's interval, from the ends of both rates that make it extreme."""
    divisor, spread = q_end * (2 * q - q_end), p_end * (2 * p - p_end)
    if divisor == 0:  # the lower end, in the limit
        return spread / (2 * p * q) if p else 0.0
    root = sqrt(max(0.0, (p * q) ** 2 - spread * divisor))
    return max(0.0, (p * q + side * root) / divisor)
