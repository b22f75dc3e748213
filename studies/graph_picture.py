"""Draws docs/graph.svg: the name scopes of the training step, as TensorBoard shows them, and what goes between them.

    python studies/graph_picture.py    (needs Graphviz)

Solid arrows are tensors of the forward pass and the losses. Dashed arrows are weights, to the passes that read them and
from the updates that write them. The backward pass and the diagnostics read nearly every tensor, and are left out.
"""

import os
import subprocess

import tensorflow.compat.v1 as tf

import study

# Each scope that is drawn: its colour, and what it computes in the paper's symbols.
GREY, BLUE, ORANGE = "#ececec", "#d3e5f8", "#fce0ca"
SCOPES = {
    "reader": (GREY, "queues of pairs (x, y)"),
    "generator": (BLUE, "G(x), and G's weights"),
    "discriminator": (ORANGE, "D's weights"),
    "discriminator_real": (ORANGE, "D(x, y)"),
    "discriminator_fake": (ORANGE, "D(x, G(x))"),
    "discriminator_loss": (ORANGE, "&minus;ln D(x, y) &minus; ln (1 &minus; D(x, G(x)))"),
    "generator_loss": (BLUE, "&minus;ln D(x, G(x)) + 100 |y &minus; G(x)|"),
    "discriminator_update": (ORANGE, "gradients for D's weights, then Adam"),
    "generator_update": (BLUE, "gradients for G's weights, then Adam"),
}


def arrows(graph):
    """Returns {(from scope, to scope): Graphviz's style of the arrow}."""
    found = {}
    for op in graph.get_operations():
        for tensor in op.inputs:
            pair = source, target = tensor.op.name.split("/")[0], op.name.split("/")[0]
            if source == target or not {source, target} <= set(SCOPES):
                continue
            if op.type == "ResourceApplyAdam" and tensor.op.type == "VarHandleOp":
                found[target, source] = "dashed"
            elif not target.endswith("_update"):
                found[pair] = "dashed" if tensor.op.type == "VarHandleOp" else "solid"
            elif source.endswith("_loss"):
                found[pair] = "solid"
    return found


def picture(graph):
    """Returns the text from which Graphviz draws the graph."""
    lines = ['digraph { rankdir=LR; ranksep=0.45; nodesep=0.3; node [shape=box, style="filled,rounded", penwidth=0.8, '
             'fontname="Helvetica", fontsize=11]; edge [penwidth=0.9, arrowsize=0.7, color="#444444"];']
    for scope, (colour, note) in SCOPES.items():
        lines.append('%s [fillcolor="%s", label=<<b>%s</b><br/><font point-size="10">%s</font>>];' % (
            scope, colour, scope, note))
    for (source, target), style in sorted(arrows(graph).items()):
        if source.endswith("_update"):  # the layout counts it as forward, so that the step's start stays at the left
            source, target, style = target, source, style + ", dir=back"
        lines.append("%s -> %s [style=%s];" % (source, target, style))
    return "\n".join(lines + ["}"])


if __name__ == "__main__":
    path = os.path.join(study.ROOT, "docs", "graph.svg")
    with tf.Graph().as_default() as step:
        study.training_graph()
    subprocess.run(["dot", "-Tsvg", "-o", path], input=picture(step), text=True, check=True)
