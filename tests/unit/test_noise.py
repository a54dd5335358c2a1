"""Sampling noise: the published hash, its distribution, and that nothing but the indices matters."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfvp.layers import noise


def words(*values):
    return tuple(tf.constant(value, tf.uint32) for value in values)


# Random123's kat_vectors, threefry2x32 with 20 rounds: counter, key, result.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_hash_gives_the_published_answers(counter, key, expected):
    assert tuple(int(word) for word in noise.threefry2x32(words(*key), words(*counter))) == expected


def test_values_are_the_same_on_every_stack():
    """Recorded with TensorFlow 2.21."""
    seeds = noise.example_seeds([0, 7, 2**40 + 7], step=3, seed=1)
    assert seeds.numpy().tolist() == SEEDS
    np.testing.assert_array_equal(noise.uniform(seeds, (3,), stream=4), np.array(UNIFORM, np.float32))
    np.testing.assert_allclose(noise.normal_at(seeds, [0, 5], (3,)), NORMAL, rtol=1e-6, atol=1e-6)


SEEDS = [[1940349575, 1572603045], [3376242383, 3491898742], [1173478880, 2939192382]]
UNIFORM = [
    [0.31146180629730225, 0.6418606638908386, 0.05517536401748657],
    [0.49547821283340454, 0.5007725954055786, 0.25301986932754517],
    [0.6443140506744385, 0.851466178894043, 0.5225210785865784],
]
NORMAL = [
    [[0.44830486, 0.34638482, -1.50480115], [0.27034807, 2.15373731, -1.1051439]],
    [[0.5801912, 0.41236398, -0.04151315], [-2.1783967, 0.42637649, 0.75964165]],
    [[0.59460235, -0.62063622, -1.13418877], [-1.4537524, 0.18225047, -0.17225468]],
]


@pytest.fixture(scope="module")
def sample():
    """512 examples, 16 frames, 64 numbers: 2^19 in all."""
    return noise.normal_at(noise.example_seeds(tf.range(512)), tf.range(16), (64,)).numpy().astype(np.float64)


def test_normals_are_normal(sample):
    values = np.sort(sample.ravel())
    count = len(values)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(values**power) - moment) < 4.5 * math.sqrt(variance / count), power
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values])
    distance = np.abs(below - (np.arange(count) + 0.5) / count).max()
    assert distance * math.sqrt(count) < 1.95  # Kolmogorov and Smirnov: exceeded once in 1,000 draws
    assert 4.0 < np.abs(values).max() < 7.0


def test_uniform_numbers_are_uniform():
    values = np.sort(noise.uniform(noise.example_seeds(tf.range(1024)), (255,)).numpy().ravel())
    assert values[0] >= 0.0 and values[-1] < 1.0
    distance = np.abs(values - (np.arange(values.size) + 0.5) / values.size).max()
    assert distance * math.sqrt(values.size) < 1.95


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["example", "frame", "place"])
def test_neighbours_and_halves_along_every_index_are_independent(sample, axis):
    moved = np.moveaxis(sample, axis, 0)
    halves = np.array_split(moved, 2)
    for first, second in ((moved[:-1], moved[1:]), halves):
        for power in (1, 2):
            a, b = (x**power - np.mean(x**power) for x in (first, second))
            correlation = np.mean(a * b) / math.sqrt(np.mean(a * a) * np.mean(b * b))
            assert abs(correlation) < 4.5 / math.sqrt(a.size)


def test_streams_steps_seeds_and_samples_are_independent():
    ids = tf.range(2000)
    kinds = {
        "plain": noise.normal(noise.example_seeds(ids), (8,)),
        "stream": noise.normal(noise.example_seeds(ids), (8,), stream=1),
        "event": noise.normal_at(noise.example_seeds(ids), [1], (8,))[:, 0],
        "step": noise.normal(noise.example_seeds(ids, step=1), (8,)),
        "seed": noise.normal(noise.example_seeds(ids, seed=1), (8,)),
        "high id": noise.normal(noise.example_seeds(tf.cast(ids, tf.int64) + 2**32), (8,)),
    }
    correlations = np.corrcoef([kind.numpy().ravel() for kind in kinds.values()]) - np.eye(len(kinds))
    assert np.abs(correlations).max() < 4.5 / math.sqrt(16000)
    samples = noise.sample_seeds(ids, 3)
    np.testing.assert_array_equal(samples[:, 2], noise.example_seeds(ids, 2))
    np.testing.assert_array_equal(samples[:, 1:], noise.sample_seeds(ids, 2, first=1))


def same(ours, theirs):
    """Equal up to the last digit, which depends on the place in a vector register."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_only_the_indices_matter():
    seeds = noise.example_seeds(tf.range(6), step=9)
    whole = noise.normal_at(seeds, tf.range(10), (3, 5), stream=2)
    same(whole[2:3], noise.normal_at(seeds[2:3], tf.range(10), (3, 5), stream=2))
    same(whole[:, 4:7], noise.normal_at(seeds, 4 + tf.range(3), (3, 5), stream=2))
    ages = tf.range(6) % 3
    older = noise.normal_at(seeds, ages[:, None] + tf.range(8), (3, 5), stream=2)
    same(older[5], whole[5, 2:])
    same(older[3], whole[3, :8])
    several = noise.normals(
        seeds, [(0, tf.range(4), (7,)), (2, tf.range(10), (3, 5)), (5, tf.range(0), (2,)), (6, ages[:, None], (1,))]
    )
    same(whole, several[1])
    assert several[0].shape == (6, 4, 7) and several[2].shape == (6, 0, 2)
    same(noise.normal(seeds, (3,), stream=1), noise.normal_at(seeds, [0], (3,), 1)[:, 0])


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_graphs_of_any_batch_and_length_draw_the_same(jit):
    seeds = noise.example_seeds(tf.range(3))
    expected = noise.normal_at(seeds, 6 + tf.range(4), (5,))
    shape = [3, 2] if jit else [None, 2]
    signature = [tf.TensorSpec(shape, tf.int64), tf.TensorSpec([4 if jit else None], tf.int32)]
    draw = tf.function(lambda s, n: noise.normal_at(s, n, (5,)), input_signature=signature, jit_compile=jit)
    same(draw(seeds, 6 + tf.range(4)), expected)


def test_replicas_draw_what_one_would():
    seeds = noise.example_seeds(tf.range(4))
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    halves = strategy.experimental_distribute_values_from_function(
        lambda context: seeds[2 * context.replica_id_in_sync_group :][:2]
    )
    drawn = strategy.run(tf.function(lambda s: noise.normal(s, (6,))), args=(halves,))
    drawn = tf.concat(strategy.experimental_local_results(drawn), axis=0)
    same(drawn, noise.normal(seeds, (6,)))


def test_a_draw_is_no_loop():
    graph = tf.function(lambda s: noise.normal_at(s, tf.range(100), (20,))).get_concrete_function(
        tf.TensorSpec([None, 2], tf.int64)
    )
    operations = [operation.type for operation in graph.graph.get_operations()]
    assert not any("While" in operation or "Stateless" in operation for operation in operations)


def test_numbers_that_would_overlap_are_refused():
    seeds = noise.example_seeds([0])
    with pytest.raises(ValueError, match="stream 255"):
        noise.normal(seeds, (1,), stream=255)
    with pytest.raises(ValueError, match="pairs of numbers"):
        noise.normal(seeds, (2**13, 2**13))
