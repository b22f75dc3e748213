"""Turns a model of the PyTorch program (junyanz/pytorch-CycleGAN-and-pix2pix) into a run folder of this program.

    python tools/from_pytorch.py latest_net_G.pth --discriminator=latest_net_D.pth --output_dir=runs/theirs

It reads U-Nets (unet_256, unet_128) and PatchGANs (basic, n_layers) with batch norm, instance norm or none. It needs
PyTorch beside this program's packages; docs/old_models.md says how to install it and how to use the run folder.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import tensorflow.compat.v1 as tf

import pix2pix
from support import run_folder, storage
from support.errors import CheckpointError, RunError, UserError
from tools.pytorch_weights import discriminator, generator, parameters

tf.logging.set_verbosity(tf.logging.ERROR)

# How that program trains a U-Net by default, for whoever goes on training. Its test script leaves dropout on.
TRAINING = {"batch_size": 1, "epochs": 200, "decay_epochs": 100, "gan_loss": "logits", "d_weight": 0.5,
            "update": "alternating", "resize_method": "bicubic", "test_dropout": False, "ema": 0.0}
UNTRAINED = {"ndf": 64, "patch": 70, "conditional": True}  # that program's default discriminator


def read(path, convert):
    """Returns (path, flags, weights) of a .pth file; convert: generator or discriminator. Raises CheckpointError."""
    import torch  # here, so that the rest of this file works without it

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = parameters({name: tensor.detach().float().numpy() for name, tensor in state.items()})
    except OSError as error:
        raise CheckpointError("%s: can't be read (%s)" % (path, error.strerror or error))
    except Exception:  # whatever torch makes of other files
        raise CheckpointError("%s: not a state_dict that torch.save wrote, such as latest_net_G.pth" % path)
    try:
        flags, weights = convert(state)
        if state:
            raise ValueError("%s is not known" % min(state))
        return path, flags, weights
    except (KeyError, ValueError) as error:
        reason = "%s is missing" % error.args if isinstance(error, KeyError) else error
        raise CheckpointError("%s: not a %s that this program has too: %s" % (path, convert.__name__, reason))


def flags_of(networks, direction):
    """Returns {name: value} of a run with these (path, flags, weights); raises CheckpointError if they contradict."""
    found = {}
    for path, flags, _ in networks:
        for name, value in flags.items():
            if found.setdefault(name, value) != value:
                raise CheckpointError("%s: its %s is %s and that of %s is %s; name two files of one model"
                                      % (path, name, value, networks[0][0], found[name]))
    return dict(UNTRAINED, **dict(TRAINING, direction=direction, **found))


def write_run(folder, flags, networks):
    """Writes a run folder: flags.txt and checkpoints/model.ckpt-0.

    Args:
      folder: is made; must not be there, unless it is empty.
      flags: {name: value} of both networks.
      networks: (path, flags, weights) of one or both; the other has the initial values of a new run.

    Raises:
      CheckpointError: the weights are not those of the networks that the flags describe.
      RunError: the folder is not empty or can't be written.
    """
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise RunError("%s: there is something already; name a new folder with --output_dir" % folder)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [1, 256, 256, flags["input_channels"]])
        outputs = pix2pix.generator(images, pix2pix.GeneratorOptions(
            output_channels=flags["output_channels"], filters=flags["ngf"],
            depth=flags["image_size"].bit_length() - 1, norm=flags["norm"]))
        pix2pix.discriminator(images, outputs, pix2pix.DiscriminatorOptions(
            filters=flags["ndf"], patch=flags["patch"], norm=flags["norm"]))
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        session.run(tf.global_variables_initializer())
        for path, _, weights in networks:
            for name, value in weights.items():
                wanted = variables[name].shape.as_list()
                if list(value.shape) != wanted:
                    raise CheckpointError("%s: its %s is %s, but the first and the last layer make it %s; this program "
                                          "does not have such a network" % (path, name, list(value.shape), wanted))
                variables[name].load(value, session)
        with storage.replacing(os.path.abspath(folder)) as new:
            run_folder.write_flags(new, flags)
            os.makedirs(run_folder.checkpoints_of(new))
            tf.train.Saver(save_relative_paths=True).save(
                session, os.path.join(run_folder.checkpoints_of(new), "model.ckpt-0"), write_meta_graph=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", help="latest_net_G.pth, or another of its kind")
    parser.add_argument("--discriminator", help="latest_net_D.pth; without it the run folder gets an untrained one")
    parser.add_argument("--direction", default="AtoB", choices=["AtoB", "BtoA"],
                        help="the --direction with which the model was trained (default, as there: AtoB)")
    parser.add_argument("--output_dir", required=True, help="the new run folder")
    options = parser.parse_args()
    try:
        networks = [read(options.generator, generator)]
        if options.discriminator:
            networks.append(read(options.discriminator, discriminator))
        flags = flags_of(networks, options.direction)
        write_run(options.output_dir, flags, networks)
    except ImportError:
        sys.exit("error: this Python has no PyTorch; docs/old_models.md says how to install it")
    except UserError as error:
        sys.exit("error: %s" % error)
    print("%s: %s" % (options.output_dir, " ".join("--%s=%s" % item for item in sorted(flags.items()))))
    if not options.discriminator:
        print("its discriminator is untrained: in test mode patches/ says nothing, and training starts with it")


if __name__ == "__main__":
    main()
