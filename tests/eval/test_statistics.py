import numpy as np
import pytest
from scipy.stats import ttest_1samp

from worldenv.eval.report.statistics import (
    Estimate,
    bootstrap_ci,
    bootstrap_means,
    crossed_means,
    distance_of_mean,
    draw_weights,
    equivalent,
    holm,
    mean_figure,
    p_value,
    paired,
    summarise,
    verdict,
)


def test_intervals_cover_the_true_mean_about_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        low, high = bootstrap_ci(rng.normal(3, 2, 24))
        hits += low <= 3 <= high
    assert 86 <= hits <= 100


def test_intervals_shrink_with_cases_and_are_reproducible() -> None:
    values = np.random.default_rng(0).normal(size=400)
    few, many = bootstrap_ci(values[:25]), bootstrap_ci(values)
    assert few[1] - few[0] > 2 * (many[1] - many[0])
    assert many == bootstrap_ci(values)
    assert many[1] - many[0] == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert bootstrap_ci(np.full(5, 2.0)) == (2.0, 2.0)


def test_pairs_are_compared_case_by_case() -> None:
    a = {"x": np.array([1.0, 5.0]), "only": np.zeros(2)}
    found = paired(a, {"x": np.array([0.0, 4.0])})
    assert found == {"x": {"mean": 1.0, "ci95": [1.0, 1.0], "n": 2}}


def nested(rng: np.random.Generator, seeds: int, worlds: int, paths: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Trajectories around their worlds' means around their seeds' means around 3."""
    groups = [np.repeat(np.arange(seeds), worlds * paths), np.tile(np.repeat(np.arange(worlds), paths), seeds)]
    effects = rng.normal(0, 1, seeds)[groups[0]] + rng.normal(0, 0.5, (seeds, worlds))[groups[0], groups[1]]
    return 3 + effects + rng.normal(0, 0.2, len(groups[0])), groups


def test_nested_intervals_cover_where_plain_ones_do_not() -> None:
    """Ten seeds are what there is to learn from, whatever the number of trajectories."""
    rng = np.random.default_rng(1)
    hits = {"nested": 0, "plain": 0}
    for _ in range(60):
        values, groups = nested(rng, 10, 4, 4)
        for name, levels in (("nested", groups), ("plain", [])):
            low, high = np.percentile(bootstrap_means(values, levels, num_draws=1000), [2.5, 97.5])
            hits[name] += low <= 3 <= high
    assert hits["nested"] >= 50
    assert hits["plain"] <= 35


def test_nested_draws_against_a_transcription() -> None:
    """Draw seeds, then worlds of each, then paths of each, in plain loops: the same spread of means."""
    rng = np.random.default_rng(2)
    values, groups = nested(rng, 4, 3, 2)
    table = {(s, w): values[(groups[0] == s) & (groups[1] == w)] for s in range(4) for w in range(3)}
    means = []
    for _ in range(4000):
        drawn = [rng.choice(table[s, w], 2) for s in rng.integers(4, size=4) for w in rng.integers(3, size=3)]
        means.append(np.mean(drawn))
    fast = bootstrap_means(values, groups, num_draws=4000)
    assert fast.std() == pytest.approx(np.std(means), rel=0.06)
    assert fast.mean() == pytest.approx(np.mean(means), abs=4 * np.std(means) / np.sqrt(4000) * 2)


def test_groups_of_one_are_the_plain_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=30)
    plain, grouped = (bootstrap_means(values, g, num_draws=5000).std() for g in ([], [np.arange(30)]))
    assert grouped == pytest.approx(plain, rel=0.05)


def judged(values: np.ndarray, seeds: np.ndarray, maps: np.ndarray) -> tuple[str, str]:
    return verdict(crossed_means(values, [seeds, maps]), [values[seeds == s].mean() for s in np.unique(seeds)])


def test_a_claim_needs_the_interval_and_the_seeds() -> None:
    rng = np.random.default_rng(0)
    seeds, worlds = np.repeat(np.arange(5), 20), np.tile(np.arange(20), 5)
    clear = rng.normal(1, 0.5, 100)
    assert judged(clear, seeds, worlds)[0] == "reproduced in direction"
    assert judged(-clear, seeds, worlds)[0] == "not reproduced"
    assert judged(rng.normal(0, 1, 100), seeds, worlds)[0] == "inconclusive"
    assert judged(clear[:60], seeds[:60], worlds[:60])[0] == "inconclusive", "three seeds are not five"
    split = clear + np.where(seeds < 2, -1.5, 3)[: len(clear)]
    assert "3 of 5 training seeds agree" in judged(split, seeds, worlds)[1]


def test_crossed_means_weigh_a_value_by_its_seed_and_its_map() -> None:
    """Against loops over the same draws; values that are missing leave their cells empty."""
    seeds, maps = np.repeat([0, 1, 2], 4)[:-1], np.tile([7, 8, 9, 10], 3)[:-1]
    values = np.random.default_rng(0).normal(size=11)
    rng = np.random.default_rng(5)
    drawn = [rng.multinomial(n, np.full(n, 1 / n), 50) for n in (3, 4)]
    wanted = []
    for of_seeds, of_maps in zip(*drawn, strict=True):
        counts = [of_seeds[s] * of_maps[m - 7] for s, m in zip(seeds, maps, strict=True)]
        if sum(counts):
            wanted.append(np.average(values, weights=counts))
    np.testing.assert_allclose(crossed_means(values, [seeds, maps], seed=5, num_draws=50), wanted, atol=1e-12)


def test_what_all_seeds_find_hard_in_a_map_is_not_taken_for_an_effect() -> None:
    """Five seeds on the same 32 maps whose gains differ by map, none on average: seldom a verdict (5 % nominal)."""
    rng, decided = np.random.default_rng(6), 0
    seeds, maps = np.repeat(np.arange(5), 32), np.tile(np.arange(32), 5)
    for _ in range(60):
        gains = rng.normal(0, 1, 32)[maps] + rng.normal(0, 0.1, 5)[seeds] + rng.normal(0, 0.5, 160)
        decided += judged(gains, seeds, maps)[0] != "inconclusive"
    assert decided <= 9


def test_p_values_are_small_where_there_is_an_effect_and_even_where_there_is_none() -> None:
    """Against the t-test, which holds for these samples; and about one in ten below 0.1 without an effect."""
    rng = np.random.default_rng(4)
    assert p_value(crossed_means(rng.normal(1, 1, 40))) < 0.001
    found = [p_value(crossed_means(rng.normal(0, 1, 60))) for _ in range(100)]
    assert 2 <= sum(p < 0.1 for p in found) <= 20
    sample = rng.normal(0.25, 1, 60)
    assert p_value(crossed_means(sample)) == pytest.approx(float(ttest_1samp(sample, 0).pvalue), abs=0.02)


def test_secondary_metrics_are_corrected_for_their_number() -> None:
    """Holm's step-down by hand: 0.01 x 3, then 0.02 x 2, then 0.04 x 1, never falling."""
    found = holm({"a": 0.04, "b": 0.01, "c": 0.02})
    assert found == {"a": 0.04, "b": pytest.approx(0.03), "c": pytest.approx(0.04)}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_summaries_count_their_cases() -> None:
    assert summarise(np.arange(5.0))["n"] == 5
    assert summarise(np.array([1.0, np.nan, 3.0]))["mean"] == 2


def test_figures_are_resampled_with_the_same_trajectories_in_both_arms() -> None:
    """Arms that differ by a constant on the far side of the target differ by it in every draw."""
    rng = np.random.default_rng(7)
    values, weights = rng.normal(3, 1, 40), draw_weights([np.arange(40)])
    near, far = (distance_of_mean(x, 1.0, weights) for x in (values, values + 0.5))
    assert (far - near).summary() == {"mean": 0.5, "ci95": [0.5, 0.5], "n": 40}
    assert (near - near).summary() == {"mean": 0, "ci95": [0, 0], "n": 40}
    low, high = near.summary()["ci95"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.1)
    part = distance_of_mean(np.where(np.arange(40) < 10, values, np.nan), 1.0, weights)
    assert part.n == 10
    assert part.value == pytest.approx(abs(values[:10].mean() - 1))


def test_the_distance_of_a_mean_is_covered_also_where_it_is_0() -> None:
    """Resampled means lie on both sides of the target, their distances only above 0."""
    rng, hits = np.random.default_rng(8), {"level": 0, "difference": 0}
    weights = draw_weights([np.arange(30)])
    for _ in range(100):
        shared = rng.normal(0, 0.3, 30)
        level, other = (distance_of_mean(mean + shared + rng.normal(0, 0.1, 30), 1.0, weights) for mean in (1.0, 1.05))
        for name, figure, true in (("level", level, 0.0), ("difference", level - other, -0.05)):
            low, high = figure.summary()["ci95"]
            hits[name] += low <= true <= high
    assert all(count >= 86 for count in hits.values()), hits


def test_a_figure_without_draws_has_no_interval_and_says_so() -> None:
    assert Estimate(2.0).summary() == {"mean": 2.0, "ci95": [2.0, 2.0], "n": 1}
    assert (Estimate(2.0) - Estimate(1.0, np.ones(5), 9)).draws is None


def test_distances_of_distributions_are_spread_around_the_figure() -> None:
    """Draws without such a figure count for nothing; the others lie where the figure does."""
    draws = np.array([np.nan, 0.5, 2.5])
    assert Estimate(1.0, draws, 9, centre=True).spread().tolist() == [0.0, 2.0]
    assert Estimate(1.0, draws, 9).spread().tolist() == [0.5, 2.5]


def test_training_seeds_widen_a_mean_figure() -> None:
    draws = np.random.default_rng(9).normal(0, 0.01, (1000, 5))
    apart = mean_figure([Estimate(float(s), draws[:, s] + s, 20) for s in range(5)])
    assert apart.value == 2
    assert apart.draws is not None
    assert apart.draws.std() == pytest.approx(np.sqrt(2 / 5), rel=0.1)
    assert mean_figure([Estimate(1.0, draws[:, 0], 20)]).draws == pytest.approx(draws[:, 0])


def test_arms_are_equal_within_a_margin_or_not() -> None:
    draws = np.random.default_rng(0).normal(0.1, 0.1, 10_000)
    assert equivalent(draws, 0.3)
    assert not equivalent(draws, 0.2)
