"""Few cases that between them have every pair of option values: most mistakes are of one option or of two together."""

import random
from itertools import combinations


def all_pairs(factors, works, *, tries=150):
    """Return dictionaries such that every pair of values of *factors* that *works* together is in one of them.

    The first value of each factor should be its default: with all others at their defaults a pair is least likely to
    be refused.
    """
    draw = random.Random(17)
    names = list(factors)
    open_pairs = {
        ((a, i), (b, j))
        for a, b in combinations(names, 2)
        for i in range(len(factors[a]))
        for j in range(len(factors[b]))
    }
    todo, cases = sorted(open_pairs), []
    while todo:
        first = todo[0]
        best, most = None, 0
        for attempt in range(tries):
            chosen = dict.fromkeys(names, 0)
            if attempt:
                keep = draw.random()  # from next to nothing but defaults, to none of them
                chosen = {name: draw.randrange(len(factors[name])) if draw.random() < keep else 0 for name in names}
            chosen.update(first)
            found = sum(pair in open_pairs for pair in _pairs(chosen))
            if found > most and works({name: factors[name][i] for name, i in chosen.items()}):
                best, most = chosen, found
        if best is not None:
            cases.append({name: factors[name][i] for name, i in best.items()})
            open_pairs -= set(_pairs(best))
        open_pairs.discard(first)
        todo = [pair for pair in todo if pair in open_pairs]
    return cases


def _pairs(chosen):
    return combinations(chosen.items(), 2)
