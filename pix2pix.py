"""The whole pix2pix graph: generator, discriminator, losses and the training step.

Isola, Zhu, Zhou and Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017
(arXiv:1611.07004), written as one explicit TensorFlow graph. This file follows the computation: layers, generator,
discriminator, losses, training step; docs/graph.svg is a picture of it. Images are NHWC float32 in [-1, 1]. The
discriminator returns logits, and the losses contain the sigmoid. Each random value depends on the seed, its purpose and
the step alone, never on the order of ops.
"""

import contextlib
import math
import typing

import tensorflow.compat.v1 as tf

from support import convolutions, devices, diagnostics
from support.precisions import fence
from support.seeds import normal, seeded, stream, uniform, zeros

GAN_LOSSES = ("log", "log_literal", "logits", "lsgan")
NORMS = ("batch", "instance", "none")
SKIPS = ("post", "pre", "none")
UPSAMPLINGS = ("transposed", "resize")
PIXEL_LOSSES = ("l1", "l2")
UPDATES = ("simultaneous", "alternating")

MAX_DEPTH = 8  # the paper's generator: 256 pixels down to 1

# The discriminator's layers before its last, by its receptive field in pixels. Each pair is (multiple of the first
# layer's filters, stride). Paper, section 6.1.2; 94 is the PyTorch-GAN collection's. Kernels are 4x4, or 1x1
# for the field of 1.
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
# Layers. Variables are made in the variable scope of the caller.


def conv(x, filters, size=4, stride=2, padding=(1, 1)):
    """Convolution without bias: [N, H, W, C] -> [N, H', W', filters], H' = (H + before + after - size) // stride + 1.

    Args:
      x: float32 [N, H, W, C]; H and W are even for stride 2.
      filters: channels of the result.
      size: height and width of the kernel in pixels, 4 or 1.
      stride: 1 or 2. A 4x4 kernel with padding (1, 1) makes H / 2 of H with stride 2, and H - 1 with stride 1.
      padding: (before, after), the numbers of zero pixels around x in height and in width. Only a 4x4 kernel of stride
        1 uses it: stride 2 always pads by (1, 1), and a 1x1 kernel by (0, 0).
    """
    kernel = tf.get_variable("kernel", [size, size, int(x.shape[3]), filters], initializer=normal(0.0))
    faster = convolutions.faster_form(x, kernel, stride, padding)
    if faster is not None:  # on a CPU, and for some sizes: what follows, computed in another way
        return faster
    x, kernel = convolutions.cast(x, kernel)
    if stride == 2 or size == 1:  # "SAME" pads an even side by one pixel at each end, and for a 1x1 kernel by none
        x = tf.nn.conv2d(x, kernel, strides=[1, stride, stride, 1], padding="SAME")
    else:
        x = tf.pad(x, [[0, 0], padding, padding, [0, 0]])
        x = tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="VALID")
    return tf.cast(x, tf.float32)


def conv_transpose(x, filters, upsample="transposed"):
    """Convolution that doubles height and width, without bias: [N, H, W, C] -> [N, 2H, 2W, filters].

    Args:
      x: float32 [N, H, W, C].
      filters: channels of the result.
      upsample: one of UPSAMPLINGS. transposed: a transposed convolution with a 4x4 kernel, stride 2 and padding (1, 1).
        resize: resizing by nearest neighbour, and then a convolution with a 3x3 kernel, stride 1 and padding (1, 1),
        which leaves no woven texture (Odena, Dumoulin and Olah 2016, "Deconvolution and Checkerboard Artifacts").
    """
    size = 4 if upsample == "transposed" else 3
    kernel = tf.get_variable("kernel", [size, size, filters, int(x.shape[3])], initializer=normal(0.0))
    if upsample == "resize":
        kernel = resizing_kernel(kernel)
    faster = convolutions.faster_transposed_form(x, kernel)
    if faster is not None:  # as in `conv`
        return faster
    _, height, width, _ = x.shape.as_list()
    dynamic = tf.shape(x)  # an export leaves height and width open
    shape = tf.stack([dynamic[0], 2 * (height or dynamic[1]), 2 * (width or dynamic[2]), filters])
    x, kernel = convolutions.cast(x, kernel)
    x = tf.nn.conv2d_transpose(x, kernel, shape, strides=[1, 2, 2, 1], padding="SAME")
    return tf.cast(x, tf.float32)


def resizing_kernel(kernel):
    """Returns the 4x4 kernel of the transposed convolution that does what resizing and a convolution do.

    The kernel is that of the convolution, [3, 3, filters, C]. Resizing makes two equal neighbours of each pixel, so the
    weights that meet both are added up.
    """
    for axis in (0, 1):
        first, middle, last = tf.unstack(kernel, axis=axis)
        kernel = tf.stack([last, middle + last, first + middle, first], axis=axis)
    return kernel


def norm_or_bias(x, norm, epsilon):
    """Normalises the result of a convolution, with scale and shift; or adds a bias if norm is "none".

    Statistics are those of the batch at hand, in training and afterwards alike (paper, 6.2), so there are no moving
    averages. `norm` is one of NORMS; epsilon is added to the variance.
    """
    check_choice("norm", norm, NORMS)
    channels = [int(x.shape[3])]
    if norm == "none":
        return tf.nn.bias_add(x, tf.get_variable("bias", channels, initializer=zeros))
    gamma = tf.get_variable("gamma", channels, initializer=normal(1.0))
    beta = tf.get_variable("beta", channels, initializer=zeros)
    if norm == "batch":
        return normalised(x, gamma, beta, epsilon)
    count = x.shape.as_list()[0]  # None in an export; test mode, with one image, takes the same form as an export
    if (count or 1) > 1 and not devices.has_gpu():  # on a CPU, a step takes three quarters of the time of what follows
        return tf.concat([normalised(image, gamma, beta, epsilon) for image in tf.split(x, count)], axis=0)
    x = fence(x)  # fused_batch_norm keeps float32 statistics by itself
    mean, variance = tf.nn.moments(x, axes=[1, 2], keepdims=True)
    return fence(tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon))


def normalised(x, gamma, beta, epsilon):
    """Batch normalisation of [N, H, W, C] with scale gamma and shift beta, [C] each, by the statistics of x."""
    none = tf.constant([], tf.float32)  # tf.nn.fused_batch_norm of TensorFlow 1.15 would raise epsilon to 1.001e-5
    return tf.raw_ops.FusedBatchNormV3(x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon,
                                       is_training=True).y


def dropout(x, rate, seed, mask_number):
    """Sets a share `rate` of x to 0 and scales the rest by 1 / (1 - rate).

    The mask is a pure function of (seed, the variable scope, mask_number), an int64 scalar below 2**32. In training it
    follows from the step. If it is None, nothing is dropped.
    """
    if mask_number is None or rate == 0:
        return x
    when = tf.cast(mask_number, tf.int64) + stream(tf.get_variable_scope().name)
    return x * tf.cast(uniform(tf.shape(x), seed, when) >= rate, x.dtype) / (1 - rate)


# ---------------------------------------------------------------------------------------------
# Networks


def unet_depth(height, width):
    """How often the generator halves an image: as often as both sides can be, at most MAX_DEPTH times.

    Raises:
      ValueError: a side is not a multiple of 32.
    """
    if height % 32 or width % 32:
        raise ValueError("the generator takes multiples of 32 pixels, not %dx%d" % (height, width))
    return max(depth for depth in range(1, MAX_DEPTH + 1) if height % 2 ** depth == width % 2 ** depth == 0)


def reflect_to_multiple(images, multiple, least=1):
    """Pads [N, H, W, C] at bottom and right, by reflection, until both sides are multiples and at least `least`."""
    for axis in (1, 2):
        count = tf.shape(images)[axis]
        period = tf.maximum(2 * (count - 1), 1)  # 0 1 2 goes on as 1 0 1 2
        padded = (tf.maximum(count, least) + multiple - 1) // multiple * multiple  # ONNX rounds -5 // 2 towards 0
        place = tf.range(padded) % period
        images = tf.gather(images, tf.minimum(place, period - place), axis=axis)
    return images


class GeneratorOptions(typing.NamedTuple):
    """What a generator is like. The defaults are those of the paper's text (section 6.1.1); its code has skip="pre"."""

    output_channels: int = 3
    filters: int = 64  # channels of the first layer; doubled from layer to layer, up to 8 times as many
    depth: typing.Optional[int] = None  # how often the image is halved; None is `unet_depth` of its size
    # One of SKIPS. The decoder gets the outputs of the encoder's leaky ReLUs (post), or their inputs, joined before the
    # decoder's own ReLU (pre, as in the paper's code), or nothing (none, the paper's encoder-decoder).
    skip: str = "post"
    upsample: str = "transposed"  # how the decoder doubles the image: one of UPSAMPLINGS, see `conv_transpose`
    norm: str = "batch"  # one of NORMS, see `norm_or_bias`
    norm_epsilon: float = 1e-5
    # Whether the innermost encoder layer is normalised too. The paper's erratum says no: the output of a batch norm on
    # 1x1 pixels and batch size 1 is its shift alone.
    bottleneck_norm: bool = False
    leaky_slope: float = 0.2  # slope of the encoder's leaky ReLUs below 0
    dropout_rate: float = 0.5  # share of units that dropout sets to 0
    dropout_blocks: int = 3  # number of decoder blocks with dropout, innermost first
    seed: int = 0  # decides the initial values and, with the mask number, the dropout masks


def generator(images, options=GeneratorOptions(), mask_number=None):
    """U-Net: halves the image `depth` times, then doubles it back.

    The layers of a 256x256 image, in height, width, channels; kernels are 4x4, the stride is 2, padding is (1, 1):

               encoder_i                        decoder_i; the skip joins the channels behind "+"
        1      256 256   3 -> 128 128  64       128 128  64 +  64 -> 256 256   3
        2      128 128  64 ->  64  64 128        64  64 128 + 128 -> 128 128  64
        3       64  64 128 ->  32  32 256        32  32 256 + 256 ->  64  64 128
        4       32  32 256 ->  16  16 512        16  16 512 + 512 ->  32  32 256
        5       16  16 512 ->   8   8 512         8   8 512 + 512 ->  16  16 512
        6        8   8 512 ->   4   4 512         4   4 512 + 512 ->   8   8 512
        7        4   4 512 ->   2   2 512         2   2 512 + 512 ->   4   4 512
        8        2   2 512 ->   1   1 512         1   1 512       ->   2   2 512

    Args:
      images: float32 [N, H, W, C] in [-1, 1]; H and W multiples of 2 ** depth, and known if the depth is None.
      options: GeneratorOptions.
      mask_number: int64 scalar; equal numbers drop equal units (see `dropout`). None: no dropout.

    Returns:
      float32 [N, H, W, output_channels] in [-1, 1].

    Raises:
      ValueError: skip, upsample or norm is unknown, or the depth is None and H or W is not a multiple of 32.
    """
    check_choice("skip", options.skip, SKIPS)
    check_choice("upsample", options.upsample, UPSAMPLINGS)
    depth = options.depth or unet_depth(*images.shape.as_list()[1:3])
    widths = [options.filters * min(2 ** i, 8) for i in range(depth)]  # 64 128 256 512 512 512 512 512

    with tf.variable_scope("generator", reuse=tf.AUTO_REUSE, use_resource=True, custom_getter=seeded(options.seed)):
        encoded = []
        x = images
        for level in range(1, depth + 1):
            innermost = level == depth
            has_norm = options.bottleneck_norm if innermost else level > 1
            with tf.variable_scope("encoder_%d" % level):
                x = conv(x, widths[level - 1], size=4, stride=2, padding=(1, 1))
                x = norm_or_bias(x, options.norm if has_norm else "none", options.norm_epsilon)
                x = tf.nn.relu(x) if innermost else tf.nn.leaky_relu(x, options.leaky_slope)
                encoded.append(tf.identity(x, "output"))

        for level in range(depth, 1, -1):
            with tf.variable_scope("decoder_%d" % level):
                x = conv_transpose(x, widths[level - 2], options.upsample)
                x = norm_or_bias(x, options.norm, options.norm_epsilon)
                if depth - level < options.dropout_blocks:
                    x = dropout(x, options.dropout_rate, options.seed, mask_number)
                x = tf.nn.relu(x)
                if options.skip == "post":
                    x = tf.concat([x, encoded[level - 2]], axis=3)
                elif options.skip == "pre":  # a ReLU undoes the leaky one: relu(leaky_relu(z)) = relu(z)
                    x = tf.concat([x, tf.nn.relu(encoded[level - 2])], axis=3)
                x = tf.identity(x, "output")

        with tf.variable_scope("decoder_1"):
            x = conv_transpose(x, options.output_channels, options.upsample)
            x = norm_or_bias(x, "none", options.norm_epsilon)
            return tf.tanh(x, name="output")


class DiscriminatorOptions(typing.NamedTuple):
    """What a discriminator is like. The defaults are the paper's (section 6.1.2)."""

    filters: int = 64  # channels of the first layer; doubled from layer to layer, up to 8 times as many
    patch: int = 70  # receptive field of a logit in pixels, one of PATCHES
    norm: str = "batch"  # one of NORMS, see `norm_or_bias`; never on the first and the last layer
    norm_epsilon: float = 1e-5
    leaky_slope: float = 0.2  # slope of the leaky ReLUs below 0
    seed: int = 0  # decides the initial values


def discriminator(inputs, targets, options=DiscriminatorOptions()):
    """PatchGAN: one logit for each patch x patch pixels of a pair (paper, section 3.2.2).

    The layers of a 256x256 pair with patch 70, in height, width, channels; kernels are 4x4, padding is (1, 1):

        layer_1    256 256   6 -> 128 128  64    stride 2
        layer_2    128 128  64 ->  64  64 128    stride 2
        layer_3     64  64 128 ->  32  32 256    stride 2
        layer_4     32  32 256 ->  31  31 512    stride 1
        layer_5     31  31 512 ->  30  30   1    stride 1

    Args:
      inputs: float32 [N, H, W, C], the condition; None for a discriminator that does not see it.
      targets: float32 [N, H, W, D], a real or generated picture of it.
      options: DiscriminatorOptions.

    Returns:
      float32 [N, h, w, 1] logits, large where the patch looks real; with patch 70, h = H / 8 - 2.

    Raises:
      ValueError: patch or norm is unknown.
    """
    check_choice("patch", options.patch, PATCHES)
    size, padding = (1, (0, 0)) if options.patch == 1 else (4, (1, 1))
    last_padding = (1, 2) if options.patch == 94 else padding  # see flags/lsgan.flags
    with tf.variable_scope("discriminator", reuse=tf.AUTO_REUSE, use_resource=True, custom_getter=seeded(options.seed)):
        x = targets if inputs is None else tf.concat([inputs, targets], axis=3)
        for level, (width, stride) in enumerate(PATCHES[options.patch], 1):
            with tf.variable_scope("layer_%d" % level):
                x = conv(x, width * options.filters, size, stride, padding)
                x = norm_or_bias(x, "none" if level == 1 else options.norm, options.norm_epsilon)
                x = tf.identity(tf.nn.leaky_relu(x, options.leaky_slope), "output")
        with tf.variable_scope("layer_%d" % (len(PATCHES[options.patch]) + 1)):
            x = conv(x, 1, size, 1, last_padding)
            return tf.identity(norm_or_bias(x, "none", options.norm_epsilon), "output")


# ---------------------------------------------------------------------------------------------
# Losses


def log_sigmoid_plus_eps(logits, eps):
    """Returns ln(sigmoid(logits) + eps), elementwise, without ever rounding the sigmoid to 0 or 1.

    ln(s + eps) = logaddexp(ln s, ln eps) with ln s = -softplus(-z), and logaddexp(a, b) = a + softplus(b - a). The
    gradient is useful for logits above ln eps, and fades below it.
    """
    log_sigmoid = -tf.nn.softplus(-logits)
    log_eps = math.log(eps) if eps > 0 else -math.inf
    return log_sigmoid + tf.nn.softplus(log_eps - log_sigmoid)


def patch_loss(logits, is_real, gan_loss="log", eps=1e-12):
    """Returns each patch's loss under the claim that it is real (or is not).

    With D = sigmoid(logits), the claim "real" costs -ln(D + eps) and "fake" -ln(1 - D + eps) (paper, equation 1; the
    eps is the classic implementations'):

    * log: that function, computed from the logits so that nothing rounds away.
    * log_literal: the formula as it is usually written, in float32. If the sigmoid of a fake patch rounds to 1, the
      loss is -ln eps and its gradient is 0.
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
    if gan_loss == "lsgan":
        return tf.square(logits - label)
    raise NotImplementedError(gan_loss)


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


class Objective(typing.NamedTuple):
    """What the two networks minimise."""

    gan_loss: str = "log"  # one of GAN_LOSSES, see `patch_loss`
    eps: float = 1e-12  # see `patch_loss`
    pixel_loss: str = "l1"  # one of PIXEL_LOSSES
    # G minimises gan_weight * GAN + l1_weight * pixel_loss (paper, equation 4); a weight of 0 removes its term.
    l1_weight: float = 100.0
    gan_weight: float = 1.0
    d_weight: float = 1.0  # weight of D's loss; 0.5 halves it (paper, section 3.3)


class Adam(typing.NamedTuple):
    """Options of tf.train.AdamOptimizer (paper, section 3.3)."""

    learning_rate: typing.Union[float, tf.Tensor] = 2e-4
    beta1: float = 0.5
    epsilon: float = 1e-8


class TrainingOptions(typing.NamedTuple):
    """How a step trains the networks."""

    objective: Objective = Objective()
    adam: Adam = Adam()
    d_adam: typing.Optional[Adam] = None  # the discriminator's, if it is to differ
    # One of UPDATES. simultaneous: both gradients come from one forward pass, both updates follow. alternating: D is
    # updated, then G against the new D on the same fake image.
    update: str = "simultaneous"
    precision: str = "float32"  # one of precisions.PRECISIONS, see `convolutions.built_for`
    ema: float = 0.0  # decay a step of the moving average of the generator's variables, see `average_step`; 0: none


class Training(typing.NamedTuple):
    """A training step.

    All tensors are computed before the updates. If updates alternate, g_loss_gan and what depends on it (G's gradient
    norm, finite) are computed after D's update.
    """

    outputs: tf.Tensor
    real_logits: tf.Tensor
    fake_logits: tf.Tensor
    d_loss: tf.Tensor  # the losses are float32 scalars without their weights
    g_loss_gan: tf.Tensor
    g_loss_l1: tf.Tensor  # L1 whatever the pixel loss is
    train_op: tf.Tensor  # makes the whole step in one session.run; returns the new step
    watched: typing.Dict[str, tf.Tensor]  # see `diagnostics.watched_scalars`
    # float32 [N], the losses and what is watched: one tensor, because each fetch is a copy of its own from a GPU. If
    # any tensor of the step is not finite, a loss, a gradient's norm or the largest logit is not finite either.
    scalars: tf.Tensor
    finite: typing.Dict[str, tf.Tensor]  # see `diagnostics.kept_finite`
    average: typing.Optional[tf.train.ExponentialMovingAverage]  # of the generator's variables, see `average_step`


def training(batch, step, generate, discriminate, options=TrainingOptions(), mean=lambda gradients: gradients):
    """Builds one training step: both networks, their losses, and an Adam update of each.

    Args:
      batch: (inputs, targets), float32 [N, H, W, C] in [-1, 1] each.
      step: the global step, a resource variable; the train op adds 1.
      generate: function images -> images that builds `generator` with its options.
      discriminate: function (inputs, targets) -> logits that builds `discriminator` with its options.
      options: TrainingOptions.
      mean: function from a network's gradients to their means over all workers (see support/workers.py).

    Returns:
      A Training.

    Raises:
      ValueError: update or the objective's pixel_loss is unknown.
    """
    check_choice("update", options.update, UPDATES)
    check_choice("pixel_loss", options.objective.pixel_loss, PIXEL_LOSSES)
    (inputs, targets), objective = batch, options.objective
    with convolutions.built_for(options.precision):
        outputs = generate(inputs)
        with tf.name_scope("discriminator_real"):
            real_logits = discriminate(inputs, targets)
        with tf.name_scope("discriminator_fake"):
            fake_logits = discriminate(inputs, outputs)

    with tf.name_scope("discriminator_loss"):
        d_loss = discriminator_loss(real_logits, fake_logits, objective.gan_loss, objective.eps)
        d_objective = objective.d_weight * d_loss
    d_update, d_norm = adam_step(d_objective, "discriminator", options.d_adam or options.adam, "Adam_D", mean)

    judged = fake_logits
    if options.update == "alternating":
        in_precision = convolutions.built_for(options.precision)
        with tf.control_dependencies([d_update]), tf.name_scope("discriminator_updated"), in_precision:
            judged = discriminate(inputs, outputs)
    with tf.name_scope("generator_loss"):
        gan = generator_gan_loss(judged, objective.gan_loss, objective.eps)
        l1 = l1_loss(outputs, targets)
        pixel = l1 if objective.pixel_loss == "l1" else l2_loss(outputs, targets)
        terms = [(objective.gan_weight, gan), (objective.l1_weight, pixel)]
        g_objective = tf.add_n([weight * loss for weight, loss in terms if weight])
    g_update, g_norm = adam_step(g_objective, "generator", options.adam, "Adam_G", mean)

    with tf.name_scope("diagnostics"):
        watched = diagnostics.watched_scalars(real_logits, fake_logits, d_loss, d_norm, g_norm)
        # With fences, so that bfloat16 in one scalar does not spread to the others.
        scalars = tf.stack([fence(scalar) for scalar in (d_loss, gan, l1, *watched.values())])
        finite, kept = diagnostics.kept_finite(
            inputs=inputs, targets=targets, outputs=outputs, real_logits=real_logits, fake_logits=fake_logits,
            d_loss=d_loss, g_loss_gan=gan, g_loss_l1=l1, d_gradients=d_norm, g_gradients=g_norm)
    average = tf.train.ExponentialMovingAverage(options.ema, step, name="average") if options.ema else None
    averaged = [average_step(average, "generator", g_update)] if average else []
    with tf.control_dependencies([d_update, g_update, kept, *averaged]), tf.name_scope("global_step/"):
        train_op = tf.identity(step.assign_add(1))
    return Training(outputs, real_logits, fake_logits, d_loss, gan, l1, train_op, watched, scalars, finite, average)


def adam_step(loss, network, adam, optimizer_name, mean):
    """Builds one Adam update of a network, in the name scope NETWORK_update.

    Args:
      loss: float32 scalar.
      network: "generator" or "discriminator", whose trainable variables are updated.
      adam: an Adam.
      optimizer_name: a part of the names of the slot variables, which start at zero.
      mean: see `training`.

    Returns:
      (update, norm): the op that updates the variables, and the global norm of their gradients, float32 scalar.
    """
    variables, scope = tf.trainable_variables(network + "/"), network + "_update/"
    with tf.name_scope(scope):
        gradients = mean(tf.gradients(loss, variables))
        norm = tf.global_norm(gradients)
        zero = tf.placeholder_with_default(0.0, [])  # constant initial values would stay in the session's memory
    optimizer = tf.train.AdamOptimizer(adam.learning_rate, adam.beta1, epsilon=adam.epsilon, name=optimizer_name)

    def slot(getter, name, initializer, **options):
        del initializer
        return getter(name, initializer=lambda shape, **_: tf.fill(shape, zero), **options)

    # Outside the name scope, which would rename the optimizer's variables beta1_power and beta2_power.
    with tf.variable_scope(tf.get_variable_scope(), custom_getter=slot):
        return optimizer.apply_gradients(zip(gradients, variables), name=scope), norm


def average_step(average, network, update):
    """Returns the op that updates the moving averages of a network's variables once, after the op `update`.

    The weights of a GAN oscillate, and their average gives better pictures (Yazici et al. 2019, "The Unusual
    Effectiveness of Averaging in GAN Training"). In step t, counted from 0, the new average is d * average +
    (1 - d) * weights with d = min(decay, (1 + t) / (10 + t)), as TensorFlow documents. So an early average covers
    mostly the last ninth of the steps and forgets the random initial weights. A bias correction as in Adam would
    instead weight all early steps equally.

    Args:
      average: tf.train.ExponentialMovingAverage, which knows the step. The average of a variable is called
        VARIABLE/average and starts at the variable's initial value.
      network: "generator" or "discriminator".
      update: op that updates the variables.
    """
    with tf.control_dependencies([update]), tf.name_scope(network + "_average/"):
        return average.apply(tf.trainable_variables(network + "/"))


@contextlib.contextmanager
def weights_of(average):
    """Makes networks that are built in this context use the averages of their variables as weights.

    Args:
      average: tf.train.ExponentialMovingAverage that `average_step` applied; None leaves the variables themselves.
    """
    def averages(getter, *args, **options):
        return average.average(getter(*args, **options))

    with tf.variable_scope(tf.get_variable_scope(), custom_getter=averages if average else None):
        yield
