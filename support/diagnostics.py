"""What shows whether a training step is sound: scalars to watch, and which tensor is the first that is not finite."""

import collections

import tensorflow.compat.v1 as tf


def watched_scalars(real_logits, fake_logits, d_loss, d_norm, g_norm):
    """Returns {name: float32 scalar} that tell of a step's health.

    D's largest absolute logit, the saturated share of each side (see `saturated_share`), and the norms of the networks'
    gradients, which are given.
    """
    real_gradient, fake_gradient = tf.gradients(d_loss, [real_logits, fake_logits])
    return collections.OrderedDict([
        ("d_max_logit", tf.reduce_max(tf.abs(tf.stack([real_logits, fake_logits])))),
        ("saturated_real", saturated_share(real_logits, real_gradient, True)),
        ("saturated_fake", saturated_share(fake_logits, fake_gradient, False)),
        ("d_gradient_norm", d_norm), ("g_gradient_norm", g_norm)])


def kept_finite(**tensors):
    """Stores in a local variable, at every step, which tensors of the step are finite.

    A step then need not fetch what only an error needs.

    Args:
      **tensors: in the order of their computation; for gradients, their norm in float32.

    Returns:
      (finite, kept):
      finite: {name: bool scalar}, read from the variable: whether the tensor held neither NaN nor infinity at the last
        step.
      kept: the op that writes the variable; the train op depends on it.
    """
    place = tf.get_variable("diagnostics/finite", initializer=tf.ones([len(tensors)], tf.bool), trainable=False,
                            use_resource=True, collections=[tf.GraphKeys.LOCAL_VARIABLES])
    finite = collections.OrderedDict(zip(tensors, tf.unstack(place.read_value())))
    kept = place.assign(tf.stack([all_finite(tensor) for tensor in tensors.values()]), read_value=False)
    return finite, kept


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


def finite_weights():
    """Returns {name: bool scalar}, whether each trainable variable holds neither NaN nor infinity."""
    with tf.name_scope("diagnostics/"):
        return collections.OrderedDict((v.op.name, all_finite(v)) for v in tf.trainable_variables())
