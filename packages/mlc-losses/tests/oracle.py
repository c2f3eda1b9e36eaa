"""Every loss a second time, in pure Python: what the formulas in the documentation say, and nothing else.

Numbers are Python floats, sums are `math.fsum`, voxels are records in lists. Nothing here is shared with the losses.
"""

from itertools import pairwise
from math import exp, fsum, log, log1p
from typing import NamedTuple

EPS = 2.0**-52


class Voxel(NamedTuple):
    """What is known of one voxel in one channel."""

    p: float
    log_p: float
    log_q: float
    """The logarithm of 1 - p."""
    t: float
    smooth: float
    """The target with its label smoothing."""
    w: float


def softplus(x):
    """Return log(1 + e^x)."""
    return max(x, 0.0) + log1p(exp(-abs(x)))


def sigmoid(x):
    """Return the probability of a logit."""
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def probabilities(xs, *, softmax, from_logits):
    """Return `(p, log p, log (1 - p))` of the channels of one voxel."""
    if not from_logits:
        least, most = EPS, (1.0 if softmax else 1 - EPS)
        return [(x, log(min(max(x, least), most)), log1p(-min(max(x, EPS), 1 - EPS))) for x in xs]
    if not softmax:
        return [(sigmoid(x), -softplus(-x), -softplus(x)) for x in xs]
    top = max(xs)
    whole = fsum(exp(x - top) for x in xs)
    found = []
    for c, x in enumerate(xs):
        others = fsum(exp(other - top) for i, other in enumerate(xs) if i != c)
        found.append((exp(x - top) / whole, x - top - log(whole), log(others / whole)))
    return found


def read(
    pred,
    target,
    *,
    mask=None,
    weight=None,
    mode="binary",
    from_logits=True,
    ignore_index=None,
    label_smoothing=0.0,
    **_,
):
    """Return `[b][c]` lists of the voxels that count, or with a softmax of what counts in all channels alike."""
    samples, channels = pred.shape[:2]
    softmax = mode == "multiclass"
    if softmax and target.dim() == pred.dim() and target.shape[1] == 1 != channels:
        target = target.squeeze(1)
    labelled = softmax and target.dim() < pred.dim()
    e, kinds = label_smoothing, channels if softmax else 2

    def flat(one):
        """Return `[b][c][i]`, a single channel for all."""
        one = one.unsqueeze(1) if one.dim() < pred.dim() else one
        rows = one.flatten(2).double().tolist()
        return [row * channels if len(row) == 1 else row for row in rows]

    xs, ts = flat(pred), flat(target)
    ms = None if mask is None else flat(mask)
    ws = None if weight is None else flat(weight)
    rows = []
    for b in range(samples):
        row = [[] for _ in range(channels)]
        for i in range(len(xs[b][0])):
            voids = [ts[b][c][i] == ignore_index for c in range(channels)]
            counted = [
                (ms is None or ms[b][c][i]) and (ws is None or ws[b][c][i] > 0) and not voids[c]
                for c in range(channels)
            ]
            if softmax and any(voids):
                counted = [False] * channels
            if not any(counted):
                continue
            known = probabilities(
                [xs[b][c][i] if counted[c] else 0.0 for c in range(channels)], softmax=softmax, from_logits=from_logits
            )
            for c in range(channels):
                if counted[c]:
                    t = float(ts[b][c][i] == c) if labelled else ts[b][c][i]
                    row[c].append(Voxel(*known[c], t, t * (1 - e) + e / kinds, 1.0 if ws is None else ws[b][c][i]))
        rows.append(row)
    return rows


def judged(channels, options):
    """Return the weight of each channel, 0 for one that is no region."""
    weights = list(options.get("class_weights") or [1.0] * channels)
    if not options.get("include_background", True):
        weights[0] = 0.0
    if options.get("mode") == "multiclass" and options.get("ignore_index") in range(channels):
        weights[options["ignore_index"]] = 0.0
    return weights


def finish(elements, reduction, samples):
    """Return the mean, sum or means of samples of `(sample, cost, count)`, a cost being times its count."""

    def mean(some):
        count = fsum(count for _, _, count in some)
        return fsum(cost for _, cost, _ in some) / count if count > 0 else 0.0

    if reduction == "sum":
        return [fsum(cost for _, cost, _ in elements)]
    if reduction == "sample":
        return [mean([one for one in elements if one[0] == b]) for b in range(samples)]
    if reduction == "none":
        return [cost for _, cost, _ in elements]
    return [mean(elements)]


class Sums(NamedTuple):
    """The sums over a region."""

    tp: float
    size_p: float
    size_t: float
    present: float
    n: float


def add(region, *, squared):
    """Return the sums over voxels."""
    power = 2 if squared else 1
    return Sums(
        fsum(v.w * (v.p * v.smooth if squared else min(v.p, v.smooth)) for v in region),
        fsum(v.w * v.p**power for v in region),
        fsum(v.w * v.smooth**power for v in region),
        fsum(v.w * v.t for v in region),
        fsum(v.w for v in region),
    )


def smooths(options):
    """Return what stands above and below the line."""
    smooth = options.get("smooth", 1e-6)
    above, below = options.get("smooth_nr"), options.get("smooth_dr")
    return (smooth if above is None else above), (smooth if below is None else below)


def gather(rows, *, batch):
    """Return `(sample, channel, voxels)` of every region."""
    channels = len(rows[0])
    if batch:
        return [(0, c, [v for row in rows for v in row[c]]) for c in range(channels)]
    return [(b, c, row[c]) for b, row in enumerate(rows) for c in range(channels)]


def compare_dice(sums, above, below, options):
    """Return the likeness of Dice or Jaccard."""
    if options.get("jaccard"):
        return (sums.tp + above) / (sums.size_p + sums.size_t - sums.tp + below)
    return (2 * sums.tp + above) / (sums.size_p + sums.size_t + below)


def compare_tversky(sums, above, below, options):
    """Return the likeness of Tversky."""
    fp, fn = sums.size_p - sums.tp, sums.size_t - sums.tp
    alpha, beta = options.get("alpha", 0.3), options.get("beta", 0.7)
    return (sums.tp + above) / (sums.tp + alpha * fp + beta * fn + below)


def lose(alike, options):
    """Return the loss of a likeness."""
    if options.get("log"):
        return -log(alike)
    different, gamma = 1 - alike, options.get("gamma", 1.0)
    return different if gamma == 1 else (different**gamma if different > 2.0**-23 else 0.0)


def region(compare, pred, target, *, mask=None, weight=None, **options):
    """Return what a loss over regions gives."""
    rows = read(pred, target, mask=mask, weight=weight, **options)
    weights, (above, below) = judged(pred.shape[1], options), smooths(options)
    empty, elements = options.get("empty", "volume"), []
    for b, c, voxels in gather(rows, batch=options.get("batch", False)):
        sums = add(voxels, squared=options.get("squared_pred", False))
        if not voxels or not weights[c] or (empty == "skip" and sums.present == 0):
            elements.append((b, 0.0, 0.0))
            continue
        if empty == "volume" and sums.present == 0:
            alike = 1 - (sums.size_p + sums.size_t - 2 * sums.tp) / (sums.n + above)
        else:
            alike = compare(sums, above, below, options)
        elements.append((b, weights[c] * lose(alike, options), weights[c]))
    return finish(elements, options.get("reduction", "mean"), len(rows))


def dice(pred, target, **options):
    """Return Dice, Jaccard or the logarithm of either."""
    return region(compare_dice, pred, target, **options)


def tversky(pred, target, **options):
    """Return Tversky or focal Tversky."""
    return region(compare_tversky, pred, target, **options)


def generalized_dice(pred, target, *, mask=None, weight=None, **options):
    """Return generalised Dice."""
    rows = read(pred, target, mask=mask, weight=weight, **options)
    weights, (above, below) = judged(pred.shape[1], options), smooths(options)
    empty, elements = options.get("empty", "volume"), []
    power = {"square": 2, "simple": 1, "uniform": 0}[options.get("volume_weights", "square")]
    regions = gather(rows, batch=options.get("batch", False))
    for b in dict.fromkeys(one[0] for one in regions):
        channels = [
            (add(voxels, squared=options.get("squared_pred", False)), weights[c])
            for sample, c, voxels in regions
            if sample == b and voxels and weights[c]
        ]
        there = [sums.present for sums, _ in channels if sums.present > 0]
        if not channels or (empty == "skip" and not there):
            elements.append((b, 0.0, 0.0))
            continue
        least, parts = min(there, default=1.0), []
        for sums, weight_of_class in channels:
            if sums.present > 0:
                parts.append((sums, weight_of_class * (least / sums.present) ** power))
            elif empty != "skip":
                parts.append((sums, weight_of_class))
        whole = Sums(*(fsum(v * sums[i] for sums, v in parts) for i in range(5)))
        if empty == "volume" and not there:
            cost = (whole.size_p + whole.size_t - 2 * whole.tp) / (whole.n + above)
        else:
            cost = 1 - (2 * whole.tp + above) / (whole.size_p + whole.size_t + below)
        elements.append((b, cost, 1.0))
    return finish(elements, options.get("reduction", "mean"), len(rows))


def lovasz(pred, target, *, mask=None, weight=None, **options):
    """Return the integral of the Jaccard loss over all thresholds of the error, which is its Lovász extension."""
    rows = read(pred, target, mask=mask, weight=weight, **options)
    weights, empty, elements = judged(pred.shape[1], options), options.get("empty", "volume"), []
    for b, c, voxels in gather(rows, batch=options.get("batch", False)):
        present = fsum(v.w * v.t for v in voxels)
        if not voxels or not weights[c] or (empty == "skip" and present == 0):
            elements.append((b, 0.0, 0.0))
            continue
        if empty == "volume" and present == 0:
            cost = fsum(v.w * v.p for v in voxels) / fsum(v.w for v in voxels)
        else:
            cost = integrate([(abs(v.t - v.p), v.t, v.w) for v in voxels])
        elements.append((b, weights[c] * cost, weights[c]))
    return finish(elements, options.get("reduction", "mean"), len(rows))


def integrate(errors):
    """Return `∫ w(M) / w(M ∪ foreground)` over θ from 0 to 1, where M is what has an error above θ."""
    steps = sorted({0.0, *(error for error, _, _ in errors)})
    total = []
    for low, high in pairwise(steps):
        wrong = fsum(w for error, _, w in errors if error >= high)
        either = fsum(w for error, t, w in errors if error >= high or t == 1)
        total.append((high - low) * wrong / either)
    return fsum(total)


def bce(pred, target, *, mask=None, weight=None, **options):
    """Return binary cross entropy or focal loss; without reduction only what counts, sample by sample."""
    rows = read(pred, target, mask=mask, weight=weight, **options)
    weights, gamma, alpha = judged(pred.shape[1], options), options.get("gamma", 0.0), options.get("alpha")
    elements = []
    for c in range(pred.shape[1]):
        if alpha is None:
            a, b = 1.0, 1.0
        elif alpha == "balanced":
            seen = [v for row in rows for v in row[c]]
            sides = fsum(v.w * v.smooth for v in seen), fsum(v.w * (1 - v.smooth) for v in seen)
            a, b = (sum(sides) / (2 * one) if one > 0 else 0.0 for one in sides)
        else:
            a, b = alpha, 1 - alpha
        for sample, row in enumerate(rows):
            for v in row[c]:
                cost = -a * v.smooth * exp(gamma * v.log_q) * v.log_p
                cost += -b * (1 - v.smooth) * exp(gamma * v.log_p) * v.log_q
                elements.append((sample, v.w * weights[c] * cost, v.w * weights[c]))
    return finish(elements, options.get("reduction", "mean"), len(rows))


def cross_entropy(pred, target, *, mask=None, weight=None, **options):
    """Return cross entropy or softmax focal loss; without reduction only what counts, sample by sample."""
    rows = read(pred, target, mask=mask, weight=weight, **{**options, "mode": "multiclass"})
    channels = pred.shape[1]
    weights, gamma = options.get("class_weights") or [1.0] * channels, options.get("gamma", 0.0)
    elements = []
    for sample, row in enumerate(rows):
        for voxel in zip(*row, strict=True):
            cost = fsum(
                -v.w * weights[c] * v.smooth * exp(gamma * v.log_q) * v.log_p if v.smooth else 0.0
                for c, v in enumerate(voxel)
            )
            elements.append((sample, cost, fsum(v.w * weights[c] * v.t for c, v in enumerate(voxel))))
    return finish(elements, options.get("reduction", "mean"), len(rows))


BY_NAME = {
    "bce": bce,
    "cross_entropy": cross_entropy,
    "dice": dice,
    "generalized_dice": generalized_dice,
    "lovasz": lovasz,
    "tversky": tversky,
}
