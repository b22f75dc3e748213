"""The graph: layers against independent references, networks, losses against float64, the step."""

import numpy as np
import pytest
import scipy.signal
import scipy.special
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import pix2pix
from support import convolutions, devices, diagnostics, reports, seeds

G, D, Options = pix2pix.GeneratorOptions, pix2pix.DiscriminatorOptions, pix2pix.TrainingOptions
LOGITS = [sign * z for z in (5, 16.7, 20, 30, 100) for sign in (1, -1)] + [0, 16, 17, 18, 27.6, 27.7]


def image(*shape, seed=0):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


def run_layer(session, layer, **values):
    """Runs a layer in its own variable scope; `values` replace its variables by name."""
    with tf.variable_scope("layer", custom_getter=seeds.seeded(0), use_resource=True):
        result = layer()
    session.run(tf.global_variables_initializer())
    for variable in tf.global_variables():
        name = variable.op.name.split("/")[-1]
        if name in values:
            variable.load(values[name], session)
    return session.run(result)


# Layers


@pytest.mark.parametrize("has_gpu", [False, True])  # with one, there are no other forms than `conv`'s own
@pytest.mark.parametrize("stride,filters,padding", [(1, 5, (1, 1)), (1, 1, (1, 1)), (1, 1, (1, 2)), (2, 5, (1, 1))])
def test_convolution_agrees_with_scipy(session, monkeypatch, stride, filters, padding, has_gpu):
    monkeypatch.setattr(devices, "has_gpu", lambda: has_gpu)
    x, kernel = image(1, 6, 8, 3), image(4, 4, 3, filters, seed=1)
    ours = run_layer(session, lambda: pix2pix.conv(tf.constant(x), filters, 4, stride, padding), kernel=kernel)
    padded = np.pad(x[0], [padding, padding, (0, 0)])
    reference = np.stack([sum(scipy.signal.correlate2d(padded[..., c], kernel[..., c, f], "valid")
                              for c in range(3))[::stride, ::stride] for f in range(filters)], axis=-1)
    np.testing.assert_allclose(ours[0], reference, atol=1e-5)


@pytest.mark.parametrize("has_gpu", [False, True])
def test_transposed_convolution_agrees_with_scipy(session, monkeypatch, has_gpu):
    monkeypatch.setattr(devices, "has_gpu", lambda: has_gpu)
    x, kernel = image(1, 3, 4, 5), image(4, 4, 2, 5, seed=1)
    ours = run_layer(session, lambda: pix2pix.conv_transpose(tf.constant(x), 2), kernel=kernel)
    spread = np.zeros((5, 7, 5))
    spread[::2, ::2] = x[0]
    reference = np.stack([sum(scipy.signal.convolve2d(spread[..., c], kernel[..., f, c])
                              for c in range(5))[1:-1, 1:-1] for f in range(2)], axis=-1)
    assert ours.shape == (1, 6, 8, 2)
    np.testing.assert_allclose(ours[0], reference, atol=1e-5)


@pytest.mark.parametrize("height,width", [(1, 1), (3, 4), (8, 8), (16, 20)])
def test_upsampling_by_resize_is_nearest_neighbour_and_a_3x3_convolution(session, height, width):
    x, kernel = tf.constant(image(2, height, width, 5)), image(3, 3, 2, 5, seed=1)
    ours = run_layer(session, lambda: pix2pix.conv_transpose(x, 2, "resize"), kernel=kernel)
    resized = tf.image.resize_nearest_neighbor(x, [2 * height, 2 * width])
    reference = tf.nn.conv2d(resized, kernel.transpose(0, 1, 3, 2), [1, 1, 1, 1], "SAME")
    np.testing.assert_allclose(ours, session.run(reference), atol=1e-5)


@pytest.mark.parametrize("norm,axes,has_gpu", [
    ("batch", (0, 1, 2), False), ("instance", (1, 2), False), ("instance", (1, 2), True)])
def test_normalisation_agrees_with_numpy(session, monkeypatch, norm, axes, has_gpu):
    monkeypatch.setattr(devices, "has_gpu", lambda: has_gpu)
    x, gamma, beta = image(3, 4, 5, 2) * 3 + 1, image(2, seed=1), image(2, seed=2)
    ours = run_layer(session, lambda: pix2pix.norm_or_bias(tf.constant(x), norm, 1e-5), gamma=gamma, beta=beta)
    wide = x.astype(np.float64)
    reference = ((wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
                 * gamma + beta)
    np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_on_a_cpu_instance_norm_of_a_batch_is_the_batch_norm_of_each_image():
    def types(shape):
        with tf.Graph().as_default() as graph, tf.variable_scope("layer", custom_getter=seeds.seeded(0)):
            pix2pix.norm_or_bias(tf.placeholder(tf.float32, shape), "instance", 1e-5)
            return [op.type for op in graph.get_operations() if op.type in ("FusedBatchNormV3", "Mean", "ConcatV2")]

    assert types([3, 4, 4, 2]) == 3 * ["FusedBatchNormV3"] + ["ConcatV2"]
    assert types([1, 4, 4, 2]) == types([None, 4, 4, 2]) == ["Mean", "Mean"]


@pytest.mark.parametrize("height,width", [(2, 2), (4, 16), (16, 16), (2, 32), (32, 32)])
def test_small_and_large_images_are_convolved_alike(session, height, width):
    x, kernel = tf.constant(image(2, height, width, 3)), image(4, 4, 3, 5, seed=1)
    ours = run_layer(session, lambda: pix2pix.conv(x, 5), kernel=kernel)
    np.testing.assert_allclose(ours, session.run(tf.nn.conv2d(x, kernel, [1, 2, 2, 1], "SAME")), atol=1e-5)


@pytest.mark.parametrize("height,width", [(1, 1), (2, 8), (8, 8), (1, 16), (16, 16)])
def test_small_and_large_images_are_convolved_transposed_alike(session, height, width):
    x, kernel = tf.constant(image(2, height, width, 5)), image(4, 4, 3, 5, seed=1)
    ours = run_layer(session, lambda: pix2pix.conv_transpose(x, 3), kernel=kernel)
    reference = tf.nn.conv2d_transpose(x, kernel, [2, 2 * height, 2 * width, 3], [1, 2, 2, 1], "SAME")
    np.testing.assert_allclose(ours, session.run(reference), atol=1e-5)


@pytest.mark.parametrize("size", [2, 4, 16, 32, 64])
def test_gradients_agree_with_tensorflows_own(session, size):
    large, small = tf.constant(image(2, size, size, 3)), tf.constant(image(2, size // 2, size // 2, 5, seed=1))
    with tf.variable_scope("layer", custom_getter=seeds.seeded(0), use_resource=True, reuse=tf.AUTO_REUSE):
        down, up = pix2pix.conv(large, 5), pix2pix.conv_transpose(small, 3)
    variable, = tf.global_variables()
    kernel = variable.read_value()
    how = {"strides": [1, 2, 2, 1], "padding": "SAME"}
    of_kernel = tf.nn.conv2d_backprop_filter(large, kernel.shape, small, **how)
    references = [tf.nn.conv2d_backprop_input(large.shape, kernel, small, **how), of_kernel,
                  tf.nn.conv2d(large, kernel, **how), of_kernel]
    gradients = tf.gradients(down, [large, variable], small) + tf.gradients(up, [small, variable], large)
    session.run(tf.global_variables_initializer())
    for ours, reference in zip(*session.run([gradients, references])):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("filters", [4, 512])
@pytest.mark.parametrize("stride,padding,sides", [(2, "SAME", (8, 12)), (1, "VALID", (7, 9))])
def test_kernel_gradients_agree_with_tensorflows_own(session, filters, stride, padding, sides):
    large, small = tf.constant(image(2, *sides, 3)), tf.constant(image(2, 4, 6, filters, seed=1))
    shape = [4, 4, 3, filters]
    how = {"strides": [1, stride, stride, 1], "padding": padding}
    reference = tf.nn.conv2d_backprop_filter(large, shape, small, **how)
    ours = convolutions.kernel_gradient(large, small, tf.TensorShape(shape), **how)
    ours, reference = session.run([ours, reference])
    np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-4)


def test_small_images_and_many_filters_are_products():
    def products(build):
        with tf.Graph().as_default() as graph, tf.variable_scope("layer", custom_getter=seeds.seeded(0)):
            build()
            return [op.type for op in graph.get_operations() if "Conv2D" in op.type or op.type == "MatMul"]

    def gradient(side, filters):
        return convolutions.kernel_gradient(tf.zeros([1, 2 * side, 2 * side, 3]), tf.zeros([1, side, side, filters]),
                                       tf.TensorShape([4, 4, 3, filters]), [1, 2, 2, 1], "SAME")

    assert products(lambda: pix2pix.conv(tf.zeros([1, 16, 16, 3]), 2)) == ["MatMul"]
    assert products(lambda: pix2pix.conv(tf.zeros([1, 16, 32, 3]), 2)) == ["Conv2D"]
    assert products(lambda: pix2pix.conv_transpose(tf.zeros([1, 8, 8, 3]), 2)) == ["MatMul"]
    assert products(lambda: pix2pix.conv_transpose(tf.zeros([1, 8, 16, 3]), 2)) == ["Conv2DBackpropInput"]
    assert products(lambda: pix2pix.conv_transpose(tf.placeholder(tf.float32, [1, 4, None, 3]), 2)) == [
        "Conv2DBackpropInput"]
    assert products(lambda: gradient(32, 512)) == ["MatMul"]
    assert products(lambda: gradient(32, 256)) == products(lambda: gradient(64, 512)) == ["Conv2DBackpropFilter"]


def test_the_layers_gradients_agree_with_numeric_ones(session):
    x = tf.constant(image(1, 4, 4, 2))
    with tf.get_default_graph().gradient_override_map(convolutions.BFLOAT16_GRADIENTS):
        with tf.variable_scope("down", custom_getter=seeds.seeded(0), use_resource=True):
            small = pix2pix.conv(x, 3)
        with tf.variable_scope("up", custom_getter=seeds.seeded(0), use_resource=True):
            large = pix2pix.conv_transpose(tf.sin(20 * small), 2)
        with tf.variable_scope("same", custom_getter=seeds.seeded(0), use_resource=True):
            same = pix2pix.conv(tf.sin(20 * large), 2, stride=1)
        with tf.variable_scope("one", custom_getter=seeds.seeded(0), use_resource=True):
            one = pix2pix.conv(tf.sin(20 * same), 1, stride=1, padding=(1, 2))
    loss = tf.reduce_sum(tf.sin(20 * one))
    session.run(tf.global_variables_initializer())
    kernels = [(v.read_value(), v) for v in tf.global_variables()]
    for value, handle in [(x, None), *kernels]:
        analytic, start = session.run([tf.gradients(loss, x if handle is None else handle)[0], value])
        for spot in [(0,) * 4, tuple(n - 1 for n in start.shape)]:
            around = []
            for nudge in (1e-2, -1e-2):
                moved = start.copy()
                moved[spot] += nudge
                if handle is None:
                    around.append(session.run(loss, {x: moved}))
                else:
                    handle.load(moved, session)
                    around.append(session.run(loss))
                    handle.load(start, session)
            np.testing.assert_allclose(analytic[spot], (around[0] - around[1]) / 2e-2, rtol=0.05, atol=1e-2)


def test_dropout_is_a_function_of_seed_scope_and_draw(session):
    x = tf.ones([1, 64, 64, 1])

    def mask(scope, seed, mask_number):
        with tf.variable_scope(scope):
            return pix2pix.dropout(x, 0.5, seed, tf.constant(mask_number, tf.int64))

    first, again, *others = session.run([mask("a", 0, 7), mask("a", 0, 7), mask("a", 0, 8), mask("a", 1, 7),
                                         mask("b", 0, 7)])
    np.testing.assert_array_equal(first, again)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert abs(first.mean() - 1) < 0.06
    for other in others:
        assert 0.4 < (first != other).mean() < 0.6


def test_initial_values_depend_on_seed_and_name_alone():
    def values(seed, extra):
        with tf.Graph().as_default(), tf.Session() as session:
            if extra:
                tf.random.uniform([3])
                pix2pix.discriminator(tf.zeros([1, 32, 32, 3]), tf.zeros([1, 32, 32, 3]), D(filters=2, seed=seed))
            pix2pix.generator(tf.zeros([1, 32, 32, 3]), G(filters=2, seed=seed))
            session.run(tf.global_variables_initializer())
            return session.run({v.op.name: v for v in tf.trainable_variables("generator/")})

    first, second, other = values(0, False), values(0, True), values(1, False)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
        assert name.endswith(("bias", "beta")) or (value != other[name]).any()
    kernels = np.concatenate([v.ravel() for name, v in first.items() if name.endswith("kernel")])
    assert abs(kernels.std() - 0.02) < 0.001 and abs(kernels.mean()) < 0.001
    gammas = np.concatenate([v.ravel() for name, v in first.items() if name.endswith("gamma")])
    assert abs(gammas.mean() - 1) < 0.01 and 0.01 < gammas.std() < 0.03


# Networks


@pytest.mark.parametrize("size,channels,output_channels", [(32, 3, 3), (64, 1, 3), (256, 3, 1)])
def test_generator_returns_an_image_of_the_inputs_size_in_range(session, size, channels, output_channels):
    output = pix2pix.generator(tf.constant(100 * image(2, size, size, channels)), G(
        filters=2, output_channels=output_channels))
    session.run(tf.global_variables_initializer())
    output = session.run(output)
    assert output.shape == (2, size, size, output_channels)
    assert np.abs(output).max() <= 1 and output.std() > 0


def test_layers_have_the_papers_shapes_and_parameter_counts():
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [1, 256, 256, 3])
        pix2pix.discriminator(images, pix2pix.generator(images))
        table = {name: (shape[1:], count) for name, shape, count in reports.layer_table(graph)}
    for level, width in enumerate([64, 128, 256, 512, 512, 512, 512, 512], 1):
        assert table["generator/encoder_%d" % level][0] == [256 >> level, 256 >> level, width]
    for level, width in zip(range(8, 1, -1), [1024, 1024, 1024, 1024, 512, 256, 128]):
        assert table["generator/decoder_%d" % level][0] == [512 >> level, 512 >> level, width]
    assert table["generator/decoder_1"] == ([256, 256, 3], 16 * 128 * 3 + 3)
    assert [table["discriminator/layer_%d" % i][0] for i in range(1, 6)] == [
        [128, 128, 64], [64, 64, 128], [32, 32, 256], [31, 31, 512], [30, 30, 1]]
    assert sum(count for name, (_, count) in table.items() if name.startswith("gen")) == 54414531
    assert sum(count for name, (_, count) in table.items() if name.startswith("dis")) == 2768705


def test_a_bias_stands_only_where_no_norm_follows():
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [1, 256, 256, 3])
        pix2pix.discriminator(images, pix2pix.generator(images, G(filters=2)), D(filters=2))
        leaves = {}
        for variable in tf.trainable_variables():
            layer, leaf = variable.op.name.split("/")[1:]
            leaves.setdefault(layer, set()).add(leaf)
    without_norm = {layer for layer, names in leaves.items() if names == {"kernel", "bias"}}
    assert without_norm == {"encoder_1", "encoder_8", "decoder_1", "layer_1", "layer_5"}
    assert all(names == {"kernel", "gamma", "beta"} for layer, names in leaves.items()
               if layer not in without_norm)


@pytest.mark.parametrize("size", [(200, 256), (16, 16), (256, 48)])
def test_generator_refuses_a_size_that_is_no_multiple_of_32(size):
    with tf.Graph().as_default(), pytest.raises(ValueError, match="multiples of 32"):
        pix2pix.generator(tf.zeros([1, *size, 3]), G(filters=2))


@pytest.mark.parametrize("size,depth", [((256, 256), 8), ((512, 512), 8), ((32, 32), 5), ((96, 64), 5), ((256, 128), 7),
                                        ((384, 384), 7)])
def test_the_generator_is_as_deep_as_both_sides_allow_eight_at_most(size, depth):
    assert pix2pix.unet_depth(*size) == depth
    with tf.Graph().as_default():
        output = pix2pix.generator(tf.zeros([1, *size, 3]), G(filters=2))
        names = {v.op.name for v in tf.trainable_variables() if "encoder" in v.op.name and "kernel" in v.op.name}
    assert output.shape.as_list() == [1, *size, 3] and len(names) == depth


# Grids of 256x256 images as published: 30x30 (paper's code, TensorFlow tutorial), 16x16 (PyTorch-GAN), 256x256, 62x62
# and 6x6 (paper's code with 0, 2 and 5 halvings).
@pytest.mark.parametrize("patch,grid", [(1, 256), (16, 126), (34, 62), (70, 30), (94, 16), (142, 14), (286, 6)])
def test_a_logit_sees_patch_by_patch_pixels(session, patch, grid):
    size = 512 if patch > 70 else 256
    inputs = tf.constant(image(1, size, size, 3))
    logits = pix2pix.discriminator(inputs, tf.zeros([1, size, size, 3]), D(filters=2, patch=patch, norm="none"))
    shape = pix2pix.discriminator(*[tf.zeros([1, 256, 256, 3])] * 2, D(filters=2, patch=patch, norm="none")).shape
    assert shape.as_list() == [1, grid, grid, 1]
    middle = logits.shape.as_list()[1] // 2
    gradient = tf.gradients(logits[0, middle, middle, 0], inputs)[0]
    session.run(tf.global_variables_initializer())
    rows, columns = np.nonzero(np.abs(session.run(gradient)[0]).sum(-1))
    assert rows.max() - rows.min() + 1 == patch and columns.max() - columns.min() + 1 == patch


def test_an_unconditional_discriminator_sees_the_target_alone(session):
    logits = pix2pix.discriminator(None, tf.zeros([1, 32, 32, 3]), D(filters=2))
    assert logits.shape.as_list() == [1, 2, 2, 1]
    assert tf.trainable_variables()[0].shape.as_list() == [4, 4, 3, 2]


def test_without_skips_the_decoder_hears_of_the_bottleneck_alone(session):
    pix2pix.generator(tf.constant(image(1, 32, 32, 3)), G(filters=2, skip="none"))
    graph = tf.get_default_graph()
    for level, width in ((5, 16), (4, 8), (3, 4), (2, 2)):
        assert graph.get_tensor_by_name("generator/decoder_%d/output:0" % level).shape.as_list()[3] == width


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 4, 8]), st.sampled_from([1, 3, 9]))
@settings(max_examples=20, deadline=None)
def test_images_are_padded_by_reflection_to_multiples(height, width, multiple, least):
    x = image(1, height, width, 2)
    ends = [-(-max(side, least) // multiple) * multiple for side in (height, width)]
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(tf.float32, [None, None, None, 2])
        ours = session.run(pix2pix.reflect_to_multiple(fed, multiple, least), {fed: x})
    reference = np.pad(x, [(0, 0), (0, ends[0] - height), (0, ends[1] - width), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(ours, reference)


def test_skips_carry_every_encoder_layer_to_the_decoder(session):
    images = tf.constant(image(1, 32, 32, 3))
    output = pix2pix.generator(images, G(filters=2))
    graph = tf.get_default_graph()
    for level in range(1, 5):
        decoder = graph.get_tensor_by_name("generator/decoder_%d/output:0" % (level + 1))
        encoder = graph.get_tensor_by_name("generator/encoder_%d/output:0" % level)
        session.run(tf.global_variables_initializer())
        joined, skip = session.run([decoder, encoder])
        np.testing.assert_array_equal(joined[..., -skip.shape[-1]:], skip)
    assert output.shape.as_list() == [1, 32, 32, 3]


def test_skips_before_the_activation_meet_the_decoders_relu(session):
    images = tf.random.stateless_uniform([1, 32, 32, 3], [0, 0], -1, 1)
    parts = []
    for skip in ("post", "pre"):
        pix2pix.generator(images, G(filters=2, skip=skip))
        scope = "generator" if skip == "post" else "generator_1"
        names = ("encoder_1/output:0", "decoder_2/output:0")
        parts.append([tf.get_default_graph().get_tensor_by_name("%s/%s" % (scope, name)) for name in names])
    session.run(tf.global_variables_initializer())
    (leaky, post), (_, pre) = session.run(parts)
    assert (leaky < 0).any()
    np.testing.assert_array_equal(post[..., 2:], leaky)
    np.testing.assert_array_equal(pre[..., 2:], np.maximum(leaky, 0))


def test_activations_are_the_papers(session):
    pix2pix.generator(tf.constant(image(1, 32, 32, 3)), G(filters=4))
    session.run(tf.global_variables_initializer())
    pix2pix.generator(tf.constant(image(1, 32, 32, 3)), G(filters=4, leaky_slope=1.0))
    after, before = session.run(["generator/encoder_1/output:0", "generator_1/encoder_1/output:0"])
    np.testing.assert_allclose(after, np.where(before < 0, 0.2 * before, before), rtol=1e-6)
    outputs = session.run({level: "generator/encoder_%d/output:0" % level for level in range(1, 6)})
    assert outputs[5].min() == 0 and outputs[5].max() > 0
    assert all(outputs[level].min() < 0 for level in range(1, 5))
    decoded = session.run({level: "generator/decoder_%d/output:0" % level for level in range(2, 6)})
    for level, joined in decoded.items():
        own = joined[..., :joined.shape[-1] - outputs[level - 1].shape[-1]]
        assert own.min() == 0 and own.max() > 0


@pytest.mark.parametrize("blocks", [0, 2, 3])
def test_dropout_strikes_the_innermost_decoder_blocks_alone(session, blocks):
    images, mask_number = tf.constant(image(1, 64, 64, 3)), tf.placeholder(tf.int64, [])
    pix2pix.generator(images, G(filters=16, norm="none", dropout_blocks=blocks), mask_number)
    graph = tf.get_default_graph()
    names = [op.name.split("/")[1] for op in graph.get_operations() if op.type.startswith("StatelessRandomUniform")
             and op.name.startswith("generator/decoder")]
    assert set(names) == {"decoder_%d" % level for level in range(6, 6 - blocks, -1)}
    session.run(tf.global_variables_initializer())
    block = graph.get_tensor_by_name("generator/decoder_6/output:0")
    first, again, other = (session.run(block, {mask_number: number}) for number in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == (blocks > 0)


# Losses


def reference_loss(z, is_real, gan_loss, eps):
    """(loss, gradient) of a patch in float64, from scipy alone."""
    z = np.asarray(z, np.float64)
    sign = 1 if is_real else -1
    log_d = scipy.special.log_expit(sign * z)  # of the probability that the claim gives
    if gan_loss == "log":
        loss = -np.logaddexp(log_d, np.log(eps))
        return loss, -sign * np.exp(log_d + scipy.special.log_expit(-sign * z) + loss)
    if gan_loss == "logits":
        return -log_d, -sign * scipy.special.expit(-sign * z)
    label = 1.0 if is_real else 0.0
    return (z - label) ** 2, 2 * (z - label)


def patch_loss(z, is_real, gan_loss, eps=1e-12):
    """(loss, gradient) of each logit by our graph, in a default session."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [None])
        loss = pix2pix.patch_loss(logits, is_real, gan_loss, eps)
        return session.run([loss, tf.gradients(loss, logits)[0]], {logits: z})


@pytest.mark.parametrize("is_real", [True, False])
@pytest.mark.parametrize("gan_loss", ["log", "logits", "lsgan"])
def test_losses_and_gradients_agree_with_float64(gan_loss, is_real):
    z = np.float32(LOGITS)
    for ours, reference in zip(patch_loss(z, is_real, gan_loss), reference_loss(z, is_real, gan_loss, 1e-12)):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(z=st.lists(st.floats(-120, 120, width=32), min_size=1, max_size=20), is_real=st.booleans(),
       eps=st.floats(1e-12, 1e-4))
def test_the_log_loss_agrees_with_float64_for_any_logit_and_eps(z, is_real, eps):
    for ours, reference in zip(patch_loss(z, is_real, "log", eps),
                               reference_loss(np.float32(z), is_real, "log", eps)):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("is_real", [True, False])
def test_the_literal_loss_is_its_text_in_float32(is_real):
    z = np.float32(LOGITS)
    loss, gradient = patch_loss(z, is_real, "log_literal")
    with tf.Graph().as_default(), tf.Session() as session:  # sigmoid may differ by a unit in the last place
        sigmoid = session.run(tf.sigmoid(tf.constant(z)))
    probability = sigmoid if is_real else np.float32(1) - sigmoid
    np.testing.assert_allclose(loss, -np.log(probability + np.float32(1e-12)), rtol=1e-6)
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    if not is_real:
        rounded = sigmoid == 1
        assert rounded[z >= 20].all()
        np.testing.assert_allclose(loss[rounded], -np.log(1e-12), rtol=1e-6)
        assert (gradient[rounded] == 0).all()


@pytest.mark.parametrize("shape", [[4], [None]])
def test_the_literal_loss_survives_the_graph_optimizer_with_and_without_gradient(shape):
    z = np.float32([16.7, 20, 30, 100])
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, shape)
        loss = pix2pix.patch_loss(logits, False, "log_literal")
        gradient = tf.gradients(loss, logits)[0]
        assert np.isfinite(session.run(loss, {logits: z})).all()
        assert np.isfinite(session.run([loss, gradient], {logits: z})).all()


def test_scalar_losses_are_means_over_patches_and_d_is_not_halved(session):
    real, fake = image(2, 3, 3, 1), image(2, 3, 3, 1, seed=1)
    d_loss, g_loss = session.run([pix2pix.discriminator_loss(tf.constant(real), tf.constant(fake)),
                                  pix2pix.generator_gan_loss(tf.constant(fake))])
    np.testing.assert_allclose(d_loss, reference_loss(real, True, "log", 1e-12)[0].mean()
                               + reference_loss(fake, False, "log", 1e-12)[0].mean(), rtol=1e-5)
    np.testing.assert_allclose(g_loss, reference_loss(fake, True, "log", 1e-12)[0].mean(), rtol=1e-5)


@pytest.mark.parametrize("name, build", [
    ("gan_loss", lambda x: pix2pix.patch_loss(x, True, "minimax")),
    ("skip", lambda x: pix2pix.generator(x, G(skip="both"))),
    ("upsample", lambda x: pix2pix.generator(x, G(upsample="cubic"))),
    ("norm", lambda x: pix2pix.generator(x, G(filters=1, norm="layer"))),
    ("norm", lambda x: pix2pix.discriminator(x, x, D(filters=1, norm="layer"))),
    ("patch", lambda x: pix2pix.discriminator(x, x, D(patch=71))),
    ("update", lambda x: pix2pix.training((x, x), None, None, None, Options(update="together"))),
    ("pixel_loss", lambda x: pix2pix.training((x, x), None, None, None, Options(
        pix2pix.Objective(pixel_loss="l3"))))])
def test_an_unknown_choice_is_refused_with_those_there_are(name, build):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=name + " must be one of "):
        build(tf.zeros([1, 32, 32, 3]))


@pytest.mark.parametrize("gan_loss", pix2pix.GAN_LOSSES)
def test_losses_stay_float32_under_the_bfloat16_rewrite(gan_loss):
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        inputs, targets = tf.constant(image(1, 64, 64, 3)), tf.constant(image(1, 64, 64, 3, seed=1))
        step = tf.train.get_or_create_global_step()
        model = pix2pix.training(
            (inputs, targets), step, lambda x: pix2pix.generator(x, G(filters=8)),
            lambda a, b: 60 * pix2pix.discriminator(a, b, D(filters=8)), Options(pix2pix.Objective(gan_loss)))
        session.run(tf.global_variables_initializer())
        real, fake, outputs, d_loss, gan, l1, _ = session.run(
            [model.real_logits, model.fake_logits, model.outputs, model.d_loss, model.g_loss_gan,
             model.g_loss_l1, model.train_op])
    with tf.Graph().as_default(), tf.Session() as session:
        reference = session.run([pix2pix.discriminator_loss(tf.constant(real), tf.constant(fake), gan_loss),
                                 pix2pix.generator_gan_loss(tf.constant(fake), gan_loss)])
    np.testing.assert_allclose([d_loss, gan], reference, rtol=2e-5)
    np.testing.assert_allclose(l1, np.abs(np.float64(outputs) - image(1, 64, 64, 3, seed=1)).mean(), rtol=2e-5)


# The training step


def build(batch_size, size=32, **options):
    """A small training graph on constant images; returns the model."""
    inputs, targets = (tf.constant(image(batch_size, size, size, 3, seed=seed)) for seed in (0, 1))
    step = tf.train.get_or_create_global_step()
    return pix2pix.training(
        (inputs, targets), step, lambda x: pix2pix.generator(x, G(filters=4), step),
        lambda a, b: pix2pix.discriminator(a, b, D(filters=4)), Options(**options))


@pytest.mark.parametrize("update", pix2pix.UPDATES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_trainable_variable_is_moved_by_a_step(session, batch_size, update):
    model = build(batch_size, update=update)
    session.run(tf.global_variables_initializer())
    before = session.run(tf.trainable_variables())
    assert session.run(model.train_op) == 1
    for variable, old, new in zip(tf.trainable_variables(), before, session.run(tf.trainable_variables())):
        assert (old != new).any(), variable.name


def test_gradients_of_convolutions_become_products_in_bfloat16_alone():
    def filter_gradients(precision):
        with tf.Graph().as_default() as graph:
            images, step = tf.constant(image(1, 32, 32, 3)), tf.train.get_or_create_global_step()
            pix2pix.training((images, images), step, lambda x: pix2pix.generator(x, G(filters=4)),
                             pix2pix.discriminator, Options(precision=precision))
            return " ".join(op.name for op in graph.get_operations() if op.type == "Conv2DBackpropFilter")

    assert "layer_4" in filter_gradients("float32") and "layer_4" not in filter_gradients("bfloat16")
    assert "layer_1" in filter_gradients("bfloat16")


def first_moments(session, name):
    """{variable: gradient of the first step} as Adam has seen it: m = (1 - beta1) gradient."""
    return {v.op.name.rsplit("/", 1)[0]: 2 * session.run(v) for v in tf.global_variables()
            if v.op.name.endswith("/" + name)}


def test_each_network_is_trained_by_its_own_loss_alone(session):
    model = build(2)
    d_variables, g_variables = tf.trainable_variables("discriminator/"), tf.trainable_variables("generator/")
    d_gradients = tf.gradients(model.d_loss, d_variables)
    g_gradients = tf.gradients(model.g_loss_gan + 100 * model.g_loss_l1, g_variables)
    session.run(tf.global_variables_initializer())
    expected = session.run(d_gradients + g_gradients)
    session.run(model.train_op)
    d_moments, g_moments = first_moments(session, "Adam_D"), first_moments(session, "Adam_G")
    assert set(d_moments) == {v.op.name for v in d_variables}
    assert set(g_moments) == {v.op.name for v in g_variables}
    for variable, gradient in zip(d_variables + g_variables, expected):
        seen = dict(d_moments, **g_moments)[variable.op.name]
        np.testing.assert_allclose(seen, gradient, rtol=1e-3, atol=1e-5 * np.abs(gradient).max())


def test_updates_are_adams_with_the_papers_momenta(session):
    model = build(2, adam=pix2pix.Adam(0.01))
    kernel = tf.trainable_variables("generator/decoder_1/kernel")[0]
    gradient = tf.gradients(model.g_loss_gan + 100 * model.g_loss_l1, kernel)[0]
    session.run(tf.global_variables_initializer())
    value, m, v = np.float64(session.run(kernel)), 0.0, 0.0
    for step in (1, 2, 3):
        g = np.float64(session.run([gradient, model.train_op])[0])
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g * g
        value -= 0.01 * np.sqrt(1 - 0.999 ** step) / (1 - 0.5 ** step) * m / (np.sqrt(v) + 1e-8)
        np.testing.assert_allclose(session.run(kernel), value, atol=2e-5)


def test_alternating_updates_show_the_generator_the_new_discriminator(session):
    model = build(2, update="alternating", adam=pix2pix.Adam(0.01))
    session.run(tf.global_variables_initializer())
    old = session.run(pix2pix.generator_gan_loss(model.fake_logits))
    seen = session.run([model.g_loss_gan, model.train_op])[0]
    assert abs(seen - old) > 0.01


@pytest.mark.parametrize("gan_loss,share", [("log_literal", 0.75), ("log", 0.25), ("logits", 0.0)])
def test_saturated_patches_are_those_that_are_wrong_without_gradient(session, gan_loss, share):
    logits = tf.constant([[20.0, 90.0, 30.0, -90.0]])  # of fake pairs: three wrong, one right
    gradient = tf.gradients(tf.reduce_mean(pix2pix.patch_loss(logits, False, gan_loss)), logits)[0]
    assert session.run(diagnostics.saturated_share(logits, gradient, is_real=False)) == share


def test_the_watched_scalars_agree_with_numpy(session):
    model = build(2)
    session.run(tf.global_variables_initializer())
    real, fake, watch, _ = session.run([model.real_logits, model.fake_logits, model.watched, model.train_op])
    np.testing.assert_allclose(watch["d_max_logit"], max(np.abs(real).max(), np.abs(fake).max()), rtol=1e-6)
    for network, name in (("d", "Adam_D"), ("g", "Adam_G")):
        moments = first_moments(session, name).values()
        norm = np.sqrt(sum(np.square(moment, dtype=np.float64).sum() for moment in moments))
        np.testing.assert_allclose(watch[network + "_gradient_norm"], norm, rtol=1e-4)
    assert watch["saturated_real"] == watch["saturated_fake"] == 0


def test_a_weight_of_zero_leaves_its_term_out(session):
    model = build(1, objective=pix2pix.Objective(gan_weight=0.0))
    gradient = tf.gradients(model.g_loss_l1, tf.trainable_variables("generator/decoder_1/kernel"))[0]
    session.run(tf.global_variables_initializer())
    expected = session.run(gradient)
    session.run(model.train_op)
    np.testing.assert_allclose(first_moments(session, "Adam_G")["generator/decoder_1/kernel"], 100 * expected,
                               rtol=1e-3, atol=1e-6)


def test_training_lowers_the_l1_loss(session):
    model = build(1, adam=pix2pix.Adam(2e-3))
    session.run(tf.global_variables_initializer())
    losses = [session.run([model.g_loss_l1, model.train_op])[0] for _ in range(40)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
