"""The whole pix2pix graph: generator, discriminator, losses and the training step.

Isola, Zhu, Zhou and Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017 (arXiv:1611.07004), written as one explicit TensorFlow graph. The order of this file is the
way of a tensor: layers, generator, discriminator, losses, train step. Images are NHWC float32 in
[-1, 1]; the networks return images and logits, a sigmoid belongs to the loss.

Everything random is a pure function of (seed, what it is for, when), never of the order of ops.
"""

import collections
import math
import zlib

import tensorflow.compat.v1 as tf

from support import convolutions
from support.precisions import fence

GAN_LOSSES = ("log", "log_literal", "logits", "lsgan")
NORMS = ("batch", "instance", "none")
SKIPS = ("post", "pre", "none")
PIXEL_LOSSES = ("l1", "l2")
UPDATES = ("simultaneous", "alternating")

MAX_DEPTH = 8  # the paper's generator: 256 pixels down to 1

# The discriminator's layers before its last, by its receptive field in pixels, as (filters over the first layer's,
# stride). Paper, section 6.1.2; 94 is the PyTorch-GAN collection's. Kernels are 4x4, those of the 1x1 one 1x1.
PATCHES = {
    1: [(1, 1), (2, 1)],
    16: [(1, 2), (2, 1)],
    34: [(1, 2), (2, 2), (4, 1)],
    70: [(1, 2), (2, 2), (4, 2), (8, 1)],
    94: [(1, 2), (2, 2), (4, 2), (8, 2)],
    142: [(1, 2), (2, 2), (4, 2), (8, 2), (8, 1)],
    286: [(1, 2), (2, 2), (4, 2), (8, 2), (8, 2), (8, 1)],
}


def check_choice(name, value, choices):
    """Raises ValueError, which names the choices, where a value is none of them."""
    if value not in choices:
        raise ValueError("%s must be one of %s, not %r" % (name, ", ".join(map(str, choices)), value))


# ---------------------------------------------------------------------------------------------
# Seeds and variables


def stream(name):
    """Returns an int64 offset that gives each name a random stream of its own.

    Added to a counter below 2**32 it makes the second half of a stateless op's seed pair.
    """
    return (zlib.crc32(name.encode()) & 0x7FFFFFFF) << 32


def seeded(seed):
    """Returns a custom_getter for tf.variable_scope that ties initial values to (seed, the variable's name)."""

    def named_getter(getter, name, initializer, **options):
        def initial_value(shape, dtype, partition_info=None):
            del partition_info  # TensorFlow 1.15 passes it
            key = tf.constant([seed, stream(name)], tf.int64)
            # With a constant seed the graph optimizer would evaluate it all, slowly, and discard the result.
            return initializer(shape, dtype, seed=tf.placeholder_with_default(key, [2]))

        return getter(name, initializer=initial_value, **options)

    return named_getter


def normal(mean):
    """Returns an initializer for `seeded`: normal with the paper's standard deviation 0.02 (6.2)."""

    def initializer(shape, dtype, seed):
        return tf.random.stateless_normal(shape, seed, mean=mean, stddev=0.02, dtype=dtype)

    return initializer


def zeros(shape, dtype, seed):
    """An initializer for `seeded`; `seed` is not needed."""
    del seed
    return tf.zeros(shape, dtype)


# ---------------------------------------------------------------------------------------------
# Layers. Variables are made in the variable scope of the caller.


def conv(x, filters, stride=2, size=4, padding=(1, 1)):
    """Convolution without bias, [N, H, W, C] -> [N, H', W', filters]; see `convolutions.convolution`."""
    kernel = tf.get_variable("kernel", [size, size, int(x.shape[3]), filters], initializer=normal(0.0))
    return convolutions.convolution(x, kernel, stride, padding)


def conv_transpose(x, filters):
    """4x4 transposed convolution, stride 2, without bias, [N, H, W, C] -> [N, 2H, 2W, filters]."""
    kernel = tf.get_variable("kernel", [4, 4, filters, int(x.shape[3])], initializer=normal(0.0))
    return convolutions.transposed_convolution(x, kernel)


def norm_or_bias(x, norm, epsilon):
    """What follows a convolution: a normalisation with scale and shift, or else a bias.

    Statistics are those of the batch at hand, in training and afterwards alike (paper, 6.2), so
    there are no moving averages. `norm` is one of NORMS; epsilon is added to the variance.
    """
    check_choice("norm", norm, NORMS)
    channels = [int(x.shape[3])]
    if norm == "none":
        return tf.nn.bias_add(x, tf.get_variable("bias", channels, initializer=zeros))
    gamma = tf.get_variable("gamma", channels, initializer=normal(1.0))
    beta = tf.get_variable("beta", channels, initializer=zeros)
    if norm == "batch":
        none = tf.constant([], tf.float32)  # tf.nn.fused_batch_norm of TensorFlow 1.15 would raise epsilon to 1.001e-5
        return tf.raw_ops.FusedBatchNormV3(x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon,
                                           is_training=True).y
    x = fence(x)  # fused_batch_norm keeps float32 statistics by itself
    mean, variance = tf.nn.moments(x, axes=[1, 2], keepdims=True)
    return fence(tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon))


def dropout(x, rate, seed, draw):
    """Sets a share `rate` of x to 0 and scales the rest by 1 / (1 - rate).

    The mask is a pure function of (seed, the variable scope, draw); `draw` is an int64 scalar
    below 2**32, in training the step. None switches dropout off.
    """
    if draw is None or rate == 0:
        return x
    when = tf.cast(draw, tf.int64) + stream(tf.get_variable_scope().name)
    uniform = tf.random.stateless_uniform(tf.shape(x), seed=tf.stack([tf.constant(seed, tf.int64), when]))
    return x * tf.cast(uniform >= rate, x.dtype) / (1 - rate)


# ---------------------------------------------------------------------------------------------
# Networks


def unet_depth(height, width):
    """How often the generator halves an image: as often as both sides can be, at most MAX_DEPTH times.

    Raises:
      ValueError: a side is not a multiple of 32.
    """
    sides = math.gcd(height, width)
    if sides % 32:
        raise ValueError("the generator takes multiples of 32 pixels, not %dx%d" % (height, width))
    return min((sides & -sides).bit_length() - 1, MAX_DEPTH)  # the power of two in both sides


def generator(images, *, output_channels=3, filters=64, depth=None, skip="post", norm="batch", norm_epsilon=1e-5,
              bottleneck_norm=False, leaky_slope=0.2, dropout_rate=0.5, dropout_blocks=3, draw=None, seed=0):
    """U-Net: halves the image `depth` times, then doubles it back.

    Paper, section 6.1.1, with the erratum's bottleneck: no batch norm on it unless
    `bottleneck_norm`, because on 1x1 pixels and batch 1 it would output its shift alone.

    Args:
      images: float32 [N, H, W, C] in [-1, 1]; H and W multiples of 2 ** depth.
      output_channels: channels of the result.
      filters: of the first layer; doubled from layer to layer up to 8 times as many.
      depth: how often the image is halved. Default: `unet_depth` of H and W, which must be known then.
      skip: one of SKIPS; what the decoder gets from the encoder: its leaky ReLUs' outputs (post), their inputs,
        joined before the decoder's own ReLU (pre; the paper's code), or nothing (none; its encoder-decoder).
      norm, norm_epsilon: see `norm_or_bias`.
      bottleneck_norm: whether the innermost encoder layer is normalised too.
      leaky_slope: of the encoder's leaky ReLUs below 0.
      dropout_rate, dropout_blocks: how much is dropped in how many decoder blocks, innermost first.
      draw: int64 scalar; equal numbers drop equal units (see `dropout`). None: no dropout.
      seed: decides the initial values and, with `draw`, the dropout masks.

    Returns:
      float32 [N, H, W, output_channels] in [-1, 1].

    Raises:
      ValueError: skip or norm is unknown, or depth is not given and H or W is not a multiple of 32.
    """
    check_choice("skip", skip, SKIPS)
    depth = depth or unet_depth(*images.shape.as_list()[1:3])
    widths = [filters * min(2 ** i, 8) for i in range(depth)]  # 64 128 256 512 512 512 512 512

    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE, use_resource=True,
                           custom_getter=seeded(seed)):
        encoded = []
        x = images
        for level in range(1, depth + 1):  # encoder_1: 256 -> 128, ..., encoder_8: 2 -> 1
            innermost = level == depth
            normalised = bottleneck_norm if innermost else level > 1
            with tf.variable_scope("encoder_%d" % level):
                x = conv(x, widths[level - 1])
                x = norm_or_bias(x, norm if normalised else "none", norm_epsilon)
                x = tf.nn.relu(x) if innermost else tf.nn.leaky_relu(x, leaky_slope)
                encoded.append(tf.identity(x, "output"))

        for level in range(depth, 1, -1):  # decoder_8: 1 -> 2, ..., decoder_2: 64 -> 128
            with tf.variable_scope("decoder_%d" % level):
                x = conv_transpose(x, widths[level - 2])
                x = norm_or_bias(x, norm, norm_epsilon)
                if depth - level < dropout_blocks:
                    x = dropout(x, dropout_rate, seed, draw)
                x = tf.nn.relu(x)
                if skip == "post":
                    x = tf.concat([x, encoded[level - 2]], axis=3)
                elif skip == "pre":  # a ReLU undoes the leaky one: relu(leaky_relu(z)) = relu(z)
                    x = tf.concat([x, tf.nn.relu(encoded[level - 2])], axis=3)
                x = tf.identity(x, "output")

        with tf.variable_scope("decoder_1"):  # 128 -> 256
            x = norm_or_bias(conv_transpose(x, output_channels), "none", norm_epsilon)
            return tf.tanh(x, name="output")


def reflect_to_multiple(images, multiple, least=1):
    """Pads [N, H, W, C] at bottom and right, by reflection, until both sides are multiples and at least `least`."""
    for axis in (1, 2):
        count = tf.shape(images)[axis]
        period = tf.maximum(2 * (count - 1), 1)  # 0 1 2 goes on as 1 0 1 2
        place = tf.range(-(-tf.maximum(count, least) // multiple) * multiple) % period
        images = tf.gather(images, tf.minimum(place, period - place), axis=axis)
    return images


def discriminator(inputs, targets, *, filters=64, patch=70, norm="batch", norm_epsilon=1e-5, leaky_slope=0.2, seed=0):
    """PatchGAN: one logit for each patch x patch pixels of the pair (paper, sections 3.2.2 and 6.1.2).

    The default has three convolutions of stride 2 and two of stride 1, each after zero padding by one
    pixel; 256x256 images give 30x30 logits.

    Args:
      inputs: float32 [N, H, W, C], the condition; None for a discriminator that does not see it.
      targets: float32 [N, H, W, D], a real or generated picture of it.
      filters: of the first layer; doubled from layer to layer up to 8 times as many.
      patch: receptive field of a logit in pixels, one of PATCHES.
      norm, norm_epsilon: see `norm_or_bias`; never on the first and the last layer.
      leaky_slope: of the leaky ReLUs below 0.
      seed: decides the initial values.

    Returns:
      float32 [N, h, w, 1] logits, large where the patch looks real; with patch 70, h = H / 8 - 2.

    Raises:
      ValueError: patch or norm is unknown.
    """
    check_choice("patch", patch, PATCHES)
    size = 1 if patch == 1 else 4
    with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE, use_resource=True,
                           custom_getter=seeded(seed)):
        x = targets if inputs is None else tf.concat([inputs, targets], axis=3)
        for level, (width, stride) in enumerate(PATCHES[patch], 1):  # 256 -> 128 -> 64 -> 32 -> 31
            with tf.variable_scope("layer_%d" % level):
                x = conv(x, width * filters, stride, size)
                x = norm_or_bias(x, "none" if level == 1 else norm, norm_epsilon)
                x = tf.identity(tf.nn.leaky_relu(x, leaky_slope), "output")
        with tf.variable_scope("layer_%d" % (level + 1)):  # 31 -> 30
            x = conv(x, 1, 1, size, padding=(1, 2) if patch == 94 else (1, 1))
            return tf.identity(norm_or_bias(x, "none", norm_epsilon), "output")


def layer_table(graph):
    """Returns [(layer's name, output shape, number of parameters)] of both networks, in order."""
    parameters = collections.Counter()
    for variable in graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES):
        parameters[variable.op.name.rsplit("/", 1)[0]] += variable.shape.num_elements()
    return [(name, graph.get_tensor_by_name(name + "/output:0").shape.as_list(), count)
            for name, count in parameters.items()]


# ---------------------------------------------------------------------------------------------
# Losses


def log_sigmoid_plus_eps(logits, eps):
    """Returns ln(sigmoid(logits) + eps), elementwise, without ever rounding the sigmoid to 0 or 1.

    ln(s + eps) = logaddexp(ln s, ln eps) with ln s = -softplus(-z), and
    logaddexp(a, b) = a + softplus(b - a). The gradient stays above 0 down to about z = ln eps.
    """
    log_sigmoid = -tf.nn.softplus(-logits)
    log_eps = math.log(eps) if eps > 0 else -math.inf
    return log_sigmoid + tf.nn.softplus(log_eps - log_sigmoid)


def patch_loss(logits, is_real, gan_loss="log", eps=1e-12):
    """Returns each patch's loss under the claim that it is real (or is not).

    With D = sigmoid(logits), the claim "real" costs -ln(D + eps) and "fake" -ln(1 - D + eps)
    (paper, equation 1; the eps is the classic implementations'):

    * log: that function, computed from the logits so that nothing rounds away.
    * log_literal: the formula as it is usually written, in float32. Where sigmoid rounds to 1 it is -ln eps, with
      gradient 0.
    * logits: eps = 0, as sigmoid cross entropy on the logits.
    * lsgan: squared distance of the logit from 1 (real) or 0 (fake) (Mao et al. 2017).

    Args:
      logits: float32, any shape.
      is_real: bool, the claim.
      gan_loss: one of GAN_LOSSES.
      eps: used by log and log_literal, from 0 to below 0.1.

    Returns:
      float32 of the logits' shape.

    Raises:
      ValueError: gan_loss is unknown.
    """
    check_choice("gan_loss", gan_loss, GAN_LOSSES)
    logits = fence(logits)
    if gan_loss == "log":
        return -log_sigmoid_plus_eps(logits if is_real else -logits, eps)
    if gan_loss == "log_literal":
        probability = tf.sigmoid(logits)
        # relu changes no value; without it the graph optimizer folds 1 - D + eps to (1 + eps) - D.
        return -tf.log((probability if is_real else tf.nn.relu(1.0 - probability)) + eps)
    label = tf.ones_like(logits) if is_real else tf.zeros_like(logits)
    if gan_loss == "logits":
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits)
    return tf.square(logits - label)


def discriminator_loss(real_logits, fake_logits, gan_loss="log", eps=1e-12):
    """D's loss: real pairs called real plus fake pairs called fake; float32 scalar, mean over patches.

    The sum is not halved (the paper halves it, section 3.3). Arguments as in `patch_loss`.
    """
    return (tf.reduce_mean(patch_loss(real_logits, True, gan_loss, eps))
            + tf.reduce_mean(patch_loss(fake_logits, False, gan_loss, eps)))


def generator_gan_loss(fake_logits, gan_loss="log", eps=1e-12):
    """G's adversarial loss: fake pairs called real; float32 scalar, mean over patches.

    The non-saturating form (paper, section 3.3). Arguments as in `patch_loss`.
    """
    return tf.reduce_mean(patch_loss(fake_logits, True, gan_loss, eps))


def l1_loss(outputs, targets):
    """Mean absolute difference of two images in [-1, 1]; float32 scalar (paper, equation 3)."""
    return tf.reduce_mean(tf.abs(targets - fence(outputs)))


def l2_loss(outputs, targets):
    """Mean square difference of two images in [-1, 1]; float32 scalar (paper, section 3.1)."""
    return tf.reduce_mean(tf.square(targets - fence(outputs)))


# ---------------------------------------------------------------------------------------------
# The training step

Objective = collections.namedtuple("Objective", "gan_loss eps pixel_loss l1_weight gan_weight d_weight")
Objective.__new__.__defaults__ = ("log", 1e-12, "l1", 100.0, 1.0, 1.0)
Objective.__doc__ = """What the two networks minimise.

* gan_loss, eps: see `patch_loss`.
* pixel_loss: one of PIXEL_LOSSES.
* l1_weight, gan_weight: G minimises gan_weight * GAN + l1_weight * pixel_loss (paper, equation 4); a weight of 0
  leaves its term out.
* d_weight: of D's loss; 0.5 halves it (paper, section 3.3).
"""

Adam = collections.namedtuple("Adam", "learning_rate beta1 epsilon")
Adam.__new__.__defaults__ = (2e-4, 0.5, 1e-8)
Adam.__doc__ = """Options of tf.train.AdamOptimizer (paper, section 3.3); learning_rate may be a scalar tensor."""

Training = collections.namedtuple(
    "Training", "outputs real_logits fake_logits d_loss g_loss_gan g_loss_l1 train_op watched nan_probe finite")
Training.__doc__ = """A training step.

* outputs, real_logits, fake_logits: of the batch, before the updates.
* d_loss, g_loss_gan, g_loss_l1: float32 scalars without their weights; g_loss_l1 is L1 whatever the pixel loss is.
* train_op: makes the whole step in one session.run; returns the new step.
* watched, nan_probe, finite: see `diagnostics`.
"""


def training(inputs, targets, step, generate, discriminate, objective=Objective(), adam=Adam(), d_adam=None,
             update="simultaneous", precision="float32", mean=lambda gradients: gradients):
    """Builds one training step: both networks, their losses, and an Adam update of each.

    Args:
      inputs, targets: float32 [N, S, S, C] in [-1, 1], the pairs of one batch.
      step: the global step, a resource variable; the train op adds 1.
      generate: function images -> images that builds `generator` with its options.
      discriminate: function (inputs, targets) -> logits that builds `discriminator` with its options.
      objective: an Objective.
      adam, d_adam: an Adam for both networks; another one for the discriminator, where its is to differ.
      update: simultaneous: both gradients come from one forward pass, both updates follow.
        alternating: D is updated, then G against the new D on the same fake image.
      precision: float32 or bfloat16, in which the session will run the convolutions; decides how their gradients are
        computed.
      mean: function from a network's gradients to their means over all workers (see support/workers.py).

    Returns:
      A Training.

    Raises:
      ValueError: update or the objective's pixel_loss is unknown.
    """
    check_choice("update", update, UPDATES)
    check_choice("pixel_loss", objective.pixel_loss, PIXEL_LOSSES)
    with convolutions.gradients_for(precision):
        outputs = generate(inputs)
        real_logits = discriminate(inputs, targets)
        fake_logits = discriminate(inputs, outputs)

    # With resource variables a pass uses the values that it read, so no update of this step changes the pass at hand.
    d_loss = discriminator_loss(real_logits, fake_logits, objective.gan_loss, objective.eps)
    d_step, d_norm = adam_step(objective.d_weight * d_loss, "discriminator/", d_adam or adam, "Adam_D", mean)

    judged = fake_logits
    if update == "alternating":
        with tf.control_dependencies([d_step]):  # outside gradients_for: no kernel gradient is taken of it
            judged = discriminate(inputs, outputs)
    gan, l1 = generator_gan_loss(judged, objective.gan_loss, objective.eps), l1_loss(outputs, targets)
    pixel = l1 if objective.pixel_loss == "l1" else l2_loss(outputs, targets)
    terms = [weight * loss for weight, loss in ((objective.gan_weight, gan), (objective.l1_weight, pixel)) if weight]
    g_step, g_norm = adam_step(tf.add_n(terms), "generator/", adam, "Adam_G", mean)

    watched, nan_probe, finite, kept = diagnostics(inputs, targets, outputs, real_logits, fake_logits, d_loss, gan, l1,
                                             d_norm, g_norm)
    with tf.control_dependencies([d_step, g_step, kept]):
        train_op = tf.identity(step.assign_add(1))
    return Training(outputs, real_logits, fake_logits, d_loss, gan, l1, train_op, watched, nan_probe, finite)


def adam_step(loss, scope, adam, name, mean):
    """Returns the op that updates the variables under a scope once, with Adam, and the norm of their gradients.

    The optimizer's slots have its `name` in theirs, and begin as zeros.
    """
    variables = tf.trainable_variables(scope)
    gradients = mean(tf.gradients(loss, variables))
    optimizer = tf.train.AdamOptimizer(adam.learning_rate, adam.beta1, epsilon=adam.epsilon, name=name)
    zero = tf.placeholder_with_default(0.0, [])  # constant initial values would stay in the session's memory

    def slot(getter, name, initializer, **options):
        del initializer
        return getter(name, initializer=lambda shape, **_: tf.fill(shape, zero), **options)

    with tf.variable_scope(tf.get_variable_scope(), custom_getter=slot):
        return optimizer.apply_gradients(zip(gradients, variables)), tf.global_norm(gradients)


# ---------------------------------------------------------------------------------------------
# What shows whether a step holds


def diagnostics(inputs, targets, outputs, real_logits, fake_logits, d_loss, g_loss_gan, g_loss_l1, d_norm, g_norm):
    """Builds what watches a training step; d_norm and g_norm are the norms of the networks' gradients.

    Returns:
      (watched, nan_probe, finite, kept):
      watched: {name: float32 scalar}: D's largest absolute logit, the saturated share of each side (see
        `saturated_share`), and the norms.
      nan_probe: float32 scalar, the sum of losses, norms and largest logit: NaN or infinite as soon as a tensor of the
        step is, since losses and gradients depend on all of them.
      finite: {name: bool scalar} in the order of computation, whether a tensor of the last step held neither NaN nor
        infinity (all of a network's gradients: whether their norm is finite in float32). Read from a local variable,
        so that a step need not fetch what only an error needs.
      kept: the op that fills that variable, a part of the step.
    """
    real_gradient, fake_gradient = tf.gradients(d_loss, [real_logits, fake_logits])
    watched = collections.OrderedDict([
        ("d_max_logit", tf.reduce_max(tf.abs(tf.stack([real_logits, fake_logits])))),
        ("saturated_real", saturated_share(real_logits, real_gradient, True)),
        ("saturated_fake", saturated_share(fake_logits, fake_gradient, False)),
        ("d_gradient_norm", d_norm), ("g_gradient_norm", g_norm)])
    tensors = collections.OrderedDict([
        ("inputs", inputs), ("targets", targets), ("outputs", outputs), ("real_logits", real_logits),
        ("fake_logits", fake_logits), ("d_loss", d_loss), ("g_loss_gan", g_loss_gan), ("g_loss_l1", g_loss_l1),
        ("d_gradients", d_norm), ("g_gradients", g_norm)])
    nan_probe = tf.add_n([watched["d_max_logit"], d_loss, g_loss_gan, g_loss_l1, d_norm, g_norm])
    place = tf.get_variable("diagnostics/finite", initializer=tf.ones([len(tensors)], tf.bool), trainable=False,
                            use_resource=True, collections=[tf.GraphKeys.LOCAL_VARIABLES])
    finite = collections.OrderedDict(zip(tensors, tf.unstack(place.read_value())))
    kept = place.assign(tf.stack([all_finite(tensor) for tensor in tensors.values()]), read_value=False)
    return watched, nan_probe, finite, kept


def saturated_share(logits, gradient, is_real):
    """Share of one side's patches that D gets wrong and yet gets no gradient from; float32 scalar.

    Args:
      logits: D's, of real or of fake pairs.
      gradient: of D's loss for these logits.
      is_real: which of the two they are.
    """
    wrong = logits < 0 if is_real else logits > 0
    return tf.reduce_mean(tf.cast(tf.logical_and(wrong, tf.equal(gradient, 0.0)), tf.float32))


def all_finite(tensor):
    """Whether a tensor holds neither NaN nor infinity; bool scalar."""
    return tf.reduce_all(tf.is_finite(tensor))
