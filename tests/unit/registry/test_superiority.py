"""How seldom chance alone makes a champion, and that what is truly better becomes one."""

from dataclasses import replace

import numpy as np

from hymunet.registry import evidence, gates, pair
from hymunet.registry.evidence import Evidence, Image, Scores
from tests.support.scored_versions import BASE, COMMIT, LOCK, SUPERIOR, TAGS, write_version


def equal_but_for_noise(number, rng, images=80):
    ids = tuple(f"t{row:04}" for row in range(images))
    dice = rng.uniform(0.7, 0.95, images)
    return scored(str(number), ids, dice)


def scored(version, ids, dice):
    truth = np.arange(100, 100 + len(ids))
    return Evidence(
        version,
        COMMIT,
        LOCK,
        metrics={"test_images_sha256": "the same", "per_image_sha256": "p"},
        scores=Scores(ids, dice, truth, truth),
        images={id: Image(id, "test", id) for id in ids},
        hashes={"scores": "p"},
    )


def passes(challenger, champion, decided=0):
    return pair.Pair.of(challenger, champion, decided).better(SUPERIOR).passed


def test_of_a_hundred_models_equal_but_for_noise_five_at_most_are_called_superior_on_fresh_images():
    rng = np.random.default_rng(7)
    won = sum(passes(equal_but_for_noise(2, rng), equal_but_for_noise(1, rng)) for _ in range(100))
    assert won <= 5


def test_of_a_hundred_models_equal_but_for_noise_five_at_most_win_on_the_same_images(tmp_path):
    """As for a team that registers every seed it trains: by whole verdicts, and from the twenty-first on by none."""
    rng = np.random.default_rng(11)
    for number in "12":
        write_version(tmp_path / number, BASE)
    champion, equal = (evidence.read(number, TAGS, tmp_path / number) for number in "12")

    def wins(decided):
        noisy = np.clip(BASE + rng.normal(0, 0.02, len(BASE)), 0, 1)
        challenger = replace(equal, scores=replace(equal.scores, dice=noisy, native=noisy))
        return gates.judge(challenger, champion, SUPERIOR, decided).passed

    assert sum(wins(decided) for decided in range(SUPERIOR.max_decisions)) <= 5
    assert not any(pair.use(decided, SUPERIOR.max_decisions).passed for decided in range(20, 100))


def test_tried_until_it_wins_on_one_set_noise_seldom_wins():
    """The same test images decide each time, as for a team that registers every seed it trains: 5 % of teams."""
    rng = np.random.default_rng(8)

    def ever_wins():
        champion = equal_but_for_noise(1, rng)
        won = [passes(equal_but_for_noise(2, rng), champion, decided) for decided in range(6)]
        return any(won)

    assert sum(ever_wins() for _ in range(25)) <= 3


def test_what_is_truly_better_is_called_superior():
    rng = np.random.default_rng(9)
    champion = equal_but_for_noise(1, rng)
    better = scored("2", champion.scores.ids, np.clip(champion.scores.dice + rng.normal(0.04, 0.05, 80), 0, 1))
    assert passes(better, champion)
    assert passes(better, champion, decided=3)
