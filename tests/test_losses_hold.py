"""The losses keep their values whatever TensorFlow does to the graph around them.

Every test looks at fetched numbers, never at the graph's text, so that a new rewrite would show.
"""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import tensorflow.compat.v1 as tf

import pix2pix
from support import precisions

ROOT = os.path.join(os.path.dirname(__file__), "..")
Z = np.unique(np.concatenate([np.linspace(-120, 120, 481), np.linspace(15, 30, 301), -np.linspace(15, 30, 301)])
              ).astype(np.float32)
EPS = [1e-12, 1e-8, 1e-4]


def reference(z, is_real, eps):
    """(loss, gradient) of `log` in float64."""
    sign = 1.0 if is_real else -1.0
    log_d = scipy.special.log_expit(sign * z.astype(np.float64))
    loss = -np.logaddexp(log_d, np.log(eps))
    return loss, -sign * np.exp(log_d + scipy.special.log_expit(-sign * z.astype(np.float64)) + loss)


def config(folding=True, jit=False, bfloat16=False):
    options = tf.ConfigProto()
    rewrites = options.graph_options.rewrite_options
    if not folding:
        rewrites.constant_folding = rewrites.OFF
    if bfloat16:
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
    if jit:
        options.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_2
    return options


def clusters(metadata):
    """How many XLA clusters were compiled for a run, from its partition graphs."""
    return sum(node.op in ("_XlaCompile", "XlaLaunch") for graph in metadata.partition_graphs for node in graph.node)


def check(session, logits, is_real, z=Z):
    """Asserts that both log losses hold, with the gradient fetched and without; returns the run metadata."""
    metadata = tf.RunMetadata()
    options = tf.RunOptions(output_partition_graphs=True)
    for eps in EPS:
        log = pix2pix.patch_loss(logits, is_real, "log", eps)
        literal = pix2pix.patch_loss(logits, is_real, "log_literal", eps)
        gradients = [tf.gradients(loss, logits)[0] for loss in (log, literal)]
        alone = session.run([log, literal], {logits: z})
        log, literal, log_gradient, literal_gradient = session.run(
            [log, literal, *gradients], {logits: z}, options=options, run_metadata=metadata)
        np.testing.assert_array_equal(alone[0], log)
        np.testing.assert_array_equal(alone[1], literal)
        for ours, exact in zip((log, log_gradient), reference(z, is_real, eps)):
            np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6)
        check_literal(z, literal, literal_gradient, is_real, eps)
    return metadata


def check_literal(z, loss, gradient, is_real, eps):
    """The text in float32 arithmetic, sigmoid allowed one unit in the last place."""
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    sigmoid = np.float32(scipy.special.expit(z.astype(np.float64)))
    bounds = []
    for neighbour in (sigmoid, np.nextafter(sigmoid, np.float32(0)), np.nextafter(sigmoid, np.float32(2))):
        probability = neighbour if is_real else np.maximum(np.float32(1) - neighbour, np.float32(0))
        bounds.append(-np.log(np.float64(probability + np.float32(eps))))
    slack = 1e-6 * np.abs(bounds[0]) + 1e-6
    inside = (loss >= np.min(bounds, axis=0) - slack) & (loss <= np.max(bounds, axis=0) + slack)
    small = z < -80 if is_real else np.zeros_like(inside)  # some releases cut a sigmoid this small off to 0
    assert (inside | small).all(), (z[~inside], loss[~inside])
    if not is_real:
        rounded = z > 18
        np.testing.assert_allclose(loss[rounded], -np.log(np.float64(np.float32(eps))), rtol=1e-6)
        assert (gradient[rounded] == 0).all()


@pytest.mark.parametrize("is_real", [True, False])
@pytest.mark.parametrize("shape", [Z.shape, [None]], ids=["static", "dynamic"])
@pytest.mark.parametrize("folding", [True, False], ids=["folding", "no folding"])
def test_in_a_session_with_and_without_constant_folding(folding, shape, is_real):
    with tf.Graph().as_default(), tf.Session(config=config(folding)) as session:
        check(session, tf.placeholder(tf.float32, shape), is_real)


@pytest.mark.parametrize("is_real", [True, False])
@pytest.mark.parametrize("shape", [Z.shape, [None]], ids=["static", "dynamic"])
def test_in_an_xla_jit_scope(shape, is_real):
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, shape)
        with tf.xla.experimental.jit_scope():
            metadata = check(session, logits, is_real)
    assert clusters(metadata) > 0


def test_under_global_xla():
    """In a process of its own: the flag is read once."""
    script = ("import test_losses_hold as t, tensorflow.compat.v1 as tf\n"
              "for real, shape in ((True, t.Z.shape), (False, [None])):\n"
              "    with tf.Graph().as_default(), tf.Session(config=t.config(jit=True)) as session:\n"
              "        assert t.clusters(t.check(session, tf.placeholder(tf.float32, shape), real)) > 0\n"
              "print('held')\n")
    environment = dict(os.environ, TF_XLA_FLAGS="--tf_xla_cpu_global_jit",
                       PYTHONPATH=os.pathsep.join([ROOT, os.path.dirname(__file__)]))
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True,
                            check=False)
    assert "held" in result.stdout, result.stderr


@pytest.mark.parametrize("jit", [False, True], ids=["no XLA", "XLA"])
@pytest.mark.parametrize("is_real", [True, False])
def test_behind_bfloat16_convolutions(is_real, jit):
    """Only the gradient handed back to the convolution may carry bfloat16's rounding."""
    scope = tf.xla.experimental.jit_scope() if jit else contextlib.nullcontext()
    x = np.random.RandomState(0).uniform(-1, 1, (4, 34, 34, 8)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session(config=config(bfloat16=True)) as session:
        first, second = (tf.get_variable(name, [4, 4, 8, channels], use_resource=True,
                                         initializer=tf.random_normal_initializer(0, scale, seed=1))
                         for name, channels, scale in (("first", 8, 0.1), ("second", 1, 1.0)))
        hidden = tf.nn.conv2d(tf.placeholder_with_default(x, x.shape), first, [1, 1, 1, 1], "SAME")
        logits = tf.nn.conv2d(hidden, second, [1, 1, 1, 1], "VALID")  # a lone convolution is not rewritten
        with scope:
            losses = [pix2pix.patch_loss(logits, is_real, name) for name in ("log", "log_literal")]
        gradients = [tf.gradients(losses[0], second)[0], tf.gradients(losses[1], logits)[0]]
        session.run(tf.global_variables_initializer())
        metadata = tf.RunMetadata()
        z, log, literal, log_gradient, literal_gradient = session.run(
            [logits, *losses, *gradients], options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
        seen = session.run(hidden)
    casts = [node for graph in metadata.partition_graphs for node in graph.node
             if "AutoMixedPrecision" in node.name]
    if not casts and not {"amx_bf16", "avx512_bf16"} & set(precisions.cpu_fact("flags").split()):
        pytest.skip("this CPU has no bfloat16, and TensorFlow leaves the graph as it is")
    assert casts
    assert np.abs(z).max() > 20
    np.testing.assert_allclose(log, reference(z, is_real, 1e-12)[0], rtol=1e-5, atol=1e-6)
    check_literal(z, literal, literal_gradient, is_real, 1e-12)
    exact = reference(z, is_real, 1e-12)[1]
    expected = np.stack([[np.einsum("nhwc,nhw->c", seen[:, i:i + 31, j:j + 31], exact[..., 0]) for j in range(4)]
                         for i in range(4)])[..., None]
    np.testing.assert_allclose(log_gradient, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("gan_loss", ["log", "log_literal"])
def test_inside_the_real_training_graph(gan_loss):
    """Logits are scaled far out, so that the loss is fetched where the naive text is infinite."""
    inputs, targets = (np.random.RandomState(seed).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32) for seed in (0, 1))
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        model = pix2pix.training(
            (tf.constant(inputs), tf.constant(targets)), step,
            lambda x: pix2pix.generator(x, pix2pix.GeneratorOptions(filters=4), step),
            lambda a, b: 100 + 30 * pix2pix.discriminator(a, b, pix2pix.DiscriminatorOptions(filters=4)),
            pix2pix.TrainingOptions(pix2pix.Objective(gan_loss)))
        session.run(tf.global_variables_initializer())
        real, fake, d_loss, gan, _ = session.run(
            [model.real_logits, model.fake_logits, model.d_loss, model.g_loss_gan, model.train_op])
    assert fake.min() > 28
    np.testing.assert_allclose(d_loss, -np.log(1e-12) + reference(real, True, 1e-12)[0].mean(), rtol=1e-4)
    np.testing.assert_allclose(gan, reference(fake, True, 1e-12)[0].mean(), atol=1e-6)


def test_the_naive_text_fails_where_ours_hold():
    """What all this is for: if this starts to pass, TensorFlow no longer folds the eps away."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [4])
        naive = -tf.log(1.0 - tf.sigmoid(logits) + 1e-12)
        loss = session.run(naive, {logits: [20, 30, 60, 90]})
    assert np.isinf(loss).all()
