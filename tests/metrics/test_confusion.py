"""Counts of decisions and what is made of them (precision, F-scores, areas, matrices), against loops over decisions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from minicnn import metrics

RNG = np.random.default_rng(9)
N, C = 40, 3
LABELS = RNG.integers(0, 2, (N, C))
SCORES = np.round(RNG.uniform(0, 1, (N, C)) * 0.7 + 0.3 * LABELS, 2)  # rounded: some lie on thresholds
WEIGHTS = RNG.uniform(0, 2, N)
THRESHOLDS = [0.75, 0.25, 0.5, 0.0, 1.0]


def counted(labels: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> tuple[float, float, float, float]:
    """True positives, false positives, true negatives, false negatives; one decision after the other."""
    tp = fp = tn = fn = 0.0
    for n, c in itertools.product(*map(range, labels.shape)):
        if labels[n, c] and positive[n, c]:
            tp += weights[n]
        elif positive[n, c]:
            fp += weights[n]
        elif labels[n, c]:
            fn += weights[n]
        else:
            tn += weights[n]
    return tp, fp, tn, fn


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize(
    ("place", "kind"),
    [(0, metrics.TruePositives), (1, metrics.FalsePositives), (2, metrics.TrueNegatives), (3, metrics.FalseNegatives)],
)
def test_the_four_counts_at_each_threshold(place: int, kind: Any, weights: Any) -> None:
    metric = kind(thresholds=THRESHOLDS)
    metric.update_state(LABELS, SCORES, weights)
    ones = np.ones(N) if weights is None else weights
    expected = [counted(LABELS, threshold < SCORES, ones)[place] for threshold in THRESHOLDS]
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-12)


def test_precision_and_recall_are_ratios_of_counts() -> None:
    precision, recall = metrics.Precision(THRESHOLDS), metrics.Recall(THRESHOLDS)
    precision.update_state(LABELS, SCORES, WEIGHTS)
    recall.update_state(LABELS, SCORES, WEIGHTS)
    for i, threshold in enumerate(THRESHOLDS):
        tp, fp, _, fn = counted(LABELS, threshold < SCORES, WEIGHTS)
        assert precision.result()[i] == pytest.approx(tp / (tp + fp) if tp + fp else 0.0)
        assert recall.result()[i] == pytest.approx(tp / (tp + fn))


def test_precision_without_positive_decisions_is_zero() -> None:
    assert metrics.Precision()([[1], [0]], [[0.1], [0.2]]) == 0.0
    assert metrics.Recall()([[0], [0]], [[0.9], [0.2]]) == 0.0


def test_a_single_threshold_gives_a_float_of_all_batches() -> None:
    metric = metrics.Precision()
    metric.update_state([0, 1, 1, 1], [[1.0], [0.0], [1.0], [1.0]])
    metric.update_state([0, 1], [[0.9], [0.9]])
    assert isinstance(metric.result(), float)
    assert metric.result() == pytest.approx(3 / 5)
    metric.reset_state()
    assert metric.result() == 0.0


def test_class_id_looks_at_one_column() -> None:
    metric = metrics.Recall(class_id=1)
    metric.update_state(LABELS, SCORES, WEIGHTS)
    tp, _, _, fn = counted(LABELS[:, 1:2], SCORES[:, 1:2] > 0.5, WEIGHTS)
    assert metric.result() == pytest.approx(tp / (tp + fn))
    with pytest.raises(ValueError, match="class_id=3"):
        metrics.Recall(class_id=3).update_state(LABELS, SCORES)


def test_top_k_makes_the_k_largest_outputs_the_positive_decisions() -> None:
    labels = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    outputs = np.array([[0.2, 0.3, 0.1], [0.1, 0.7, 0.4], [0.6, 0.5, 0.4]])
    assert metrics.Precision(top_k=1)(labels, outputs) == pytest.approx(1 / 3)
    assert metrics.Recall(top_k=2)(labels, outputs) == pytest.approx(1 / 3)
    assert metrics.Recall(top_k=3)(labels, outputs) == pytest.approx(1.0)


def test_a_float32_score_on_a_threshold_is_not_above_it() -> None:
    assert metrics.TruePositives(thresholds=0.3)([[1]], np.array([[0.3]], np.float32)) == 0.0


def test_nan_is_no_positive_decision() -> None:
    assert metrics.TruePositives()([[1], [1]], [[np.nan], [0.9]]) == 1.0
    assert metrics.FalseNegatives()([[1], [1]], [[np.nan], [0.9]]) == 1.0


@pytest.mark.parametrize("average", [None, "micro", "macro", "weighted"])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_f_scores_join_precision_and_recall_per_class(average: str | None, beta: float) -> None:
    metric = metrics.FBetaScore(average, beta, threshold=0.5)
    metric.update_state(LABELS[:15], SCORES[:15], WEIGHTS[:15])
    metric.update_state(LABELS[15:], SCORES[15:], WEIGHTS[15:])

    def score(columns: slice) -> float:
        tp, fp, _, fn = counted(LABELS[:, columns], SCORES[:, columns] > 0.5, WEIGHTS)
        return (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp)

    per_class = [score(slice(c, c + 1)) for c in range(C)]
    expected = {
        None: per_class,
        "micro": score(slice(0, C)),
        "macro": sum(per_class) / C,
        "weighted": np.average(per_class, weights=WEIGHTS @ LABELS),
    }[average]
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-6)


def test_f1_without_a_threshold_decides_for_the_largest_output() -> None:
    labels = np.eye(3)[[0, 1, 2, 0]]
    outputs = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.8, 0.1, 0.1]])
    metric = metrics.F1Score()
    metric.update_state(labels, outputs)
    np.testing.assert_allclose(metric.result(), [2 * (2 / 3) / (2 / 3 + 1), 0.0, 1.0], atol=1e-6)


# --------------------------------------------------------------------------------------------------- areas


def rank_statistic(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of the pairs of a positive and a negative in which the positive scores higher: the exact area."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    return sum(wins) / len(wins)


def test_the_roc_area_is_the_rank_statistic() -> None:
    # scores are hundredths, so thresholds between them lose nothing
    metric = metrics.AUC(thresholds=np.arange(0.005, 1, 0.01).tolist())
    metric.update_state(LABELS, SCORES)
    assert metric.result() == pytest.approx(rank_statistic(LABELS.ravel(), SCORES.ravel()), rel=1e-9)


def test_the_area_of_each_label_is_averaged() -> None:
    options = {"thresholds": np.arange(0.005, 1, 0.01).tolist(), "multi_label": True}
    areas = [rank_statistic(LABELS[:, c], SCORES[:, c]) for c in range(C)]
    assert metrics.AUC(**options)(LABELS, SCORES) == pytest.approx(np.mean(areas))
    weighted = metrics.AUC(**options, label_weights=[1, 2, 5])(LABELS, SCORES)
    assert weighted == pytest.approx(np.average(areas, weights=[1, 2, 5]))


def test_scores_that_separate_have_area_one_and_reversed_ones_zero() -> None:
    labels, scores = np.array([[0], [0], [1], [1]]), np.array([[0.1], [0.3], [0.6], [0.9]])
    for curve in ("ROC", "PR"):
        assert metrics.AUC(curve=curve)(labels, scores) == pytest.approx(1.0)
    assert metrics.AUC()(1 - labels, scores) == pytest.approx(0.0)


def test_the_riemann_sums_bound_the_area() -> None:
    for curve in ("ROC", "PR"):
        low, middle, high = (
            metrics.AUC(num_thresholds=9, curve=curve, summation_method=method)(LABELS, SCORES)
            for method in ("minoring", "interpolation", "majoring")
        )
        assert low < middle < high


def test_the_pr_area_of_a_small_example() -> None:
    # scores 0.9 (right), 0.6 (wrong), 0.3 (right) and three thresholds between them, by hand:
    # (tp, fp): all (2, 1), above 0.45 (1, 1), above 0.75 (1, 0), none (0, 0)
    metric = metrics.AUC(curve="PR", thresholds=[0.45, 0.75])
    metric.update_state([[1], [0], [1]], [[0.9], [0.6], [0.3]])
    first = (1 / 1) * (1 + (1 - 2) * np.log(3 / 2)) / 2  # slope 1, intercept 1 - 1 * 2
    last = (1 / 1) * (1 + 0) / 2  # slope 1, intercept 0
    assert metric.result() == pytest.approx(first + last)


def test_logits_go_through_the_sigmoid_first() -> None:
    logits = np.log(SCORES.clip(0.01, 0.99) / (1 - SCORES.clip(0.01, 0.99)))
    area = metrics.AUC(from_logits=True)(LABELS, logits)
    assert area == pytest.approx(metrics.AUC()(LABELS, SCORES.clip(0.01, 0.99)), rel=1e-9)


# --------------------------------------------------------------------------------------------------- matrix


def test_the_confusion_matrix_has_true_classes_in_rows() -> None:
    metric = metrics.ConfusionMatrix(3)
    outputs = np.eye(3)[[0, 2, 2, 1]] * 0.8 + 0.1
    metric.update_state([0, 1, 2, 1], outputs)
    metric.update_state(np.eye(3)[[0]], [[0.2, 0.1, 0.7]])
    metric.update_state([[2]], [[2]])
    np.testing.assert_array_equal(metric.result(), [[1, 0, 1], [0, 1, 1], [0, 0, 2]])
    assert metric.result().dtype == np.int64
    metric.reset_state()
    np.testing.assert_array_equal(metric.result(), np.zeros((3, 3)))


def test_the_confusion_matrix_adds_up_weights() -> None:
    metric = metrics.ConfusionMatrix(2)
    metric.update_state([0, 1, 1], [0.2, 0.9, 0.4], [0.5, 2.0, 0.25])
    np.testing.assert_allclose(metric.result(), [[0.5, 0.0], [0.25, 2.0]])


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "make",
    [
        lambda: metrics.Precision(thresholds=1.5),
        lambda: metrics.Recall(thresholds=[0.5, np.nan]),
        lambda: metrics.Precision(top_k=0),
        lambda: metrics.AUC(num_thresholds=1),
        lambda: metrics.AUC(curve="RC"),
        lambda: metrics.AUC(summation_method="trapezoid"),
        lambda: metrics.F1Score(average="mean"),
        lambda: metrics.FBetaScore(beta=0),
        lambda: metrics.F1Score(threshold=0),
        lambda: metrics.ConfusionMatrix(1),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="Received"):
        make()


def test_labels_outside_of_the_matrix_are_named() -> None:
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=rf"from 0 to 2.*Received: {wrong}"):
            metrics.ConfusionMatrix(3).update_state([0, wrong], [0, 1])


def test_shapes_that_a_metric_cannot_use_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, classes\)"):
        metrics.F1Score().update_state([1, 0], [0.4, 0.3])
    with pytest.raises(ValueError, match="multi_label"):
        metrics.AUC(multi_label=True).update_state([1, 0], [0.4, 0.3])
    with pytest.raises(ValueError, match="as many columns"):
        metrics.AUC(multi_label=True, num_labels=2).update_state(LABELS, SCORES)
