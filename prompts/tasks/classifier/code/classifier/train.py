"""A multilayer perceptron trained by plain gradient descent, in numpy. Research edits this file.

Runs in a process of its own. `measure.py` hands out training examples, as many as the run's budget and no more, and takes
the trained layers; it makes the predictions itself, on examples that this process never sees. The start is openly plain.
Each constant is one line with blank lines around it, so that two changes merge.
"""

import itertools

import numpy as np

# Step size of gradient descent.
LEARNING_RATE = 0.01

# Share of the last step that is taken again.
MOMENTUM = 0.0

# Examples averaged into one step. The budget is examples: a smaller batch means more steps, each noisier.
BATCH = 64

# Units of each hidden layer. More of them cost more FLOPs an example, and arms are compared at equal FLOPs or less.
WIDTH = 32

# Hidden layers.
LAYERS = 2

# "tanh", "relu", "gelu" or "sine": what measure.py knows to predict with.
ACTIVATION = "tanh"

# The standard deviation of fresh weights, times the square root of a layer's inputs.
INIT_SCALE = 1.0

# Share of the weights that each step takes away, times the learning rate.
WEIGHT_DECAY = 0.0

# Share of the run, at its end, in which the step size falls to nothing along a line.
WARMDOWN = 0.0

# Share of the run, at its start, in which the step size rises from nothing along a line.
WARMUP = 0.0

# Share of the target that is spread over all classes alike.
LABEL_SMOOTHING = 0.0

# The largest length of one step's gradient; a longer one is cut to it. 0 cuts nothing.
CLIP = 0.0

SLOPES = {
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0).astype(float),
    "gelu": lambda z: (s := 1 / (1 + np.exp(-1.702 * z))) + 1.702 * z * s * (1 - s),
    "sine": np.cos,
}


def train(examples, inputs, classes, activations, seed):
    """Layers [(weights (n_in, n_out), biases (n_out,)), …] and the name of the activation between them.

    examples: `examples.take(n)` returns x (n, inputs) and y (n,) of class numbers, fresh ones at each call, and None when
    the budget is used up; `examples.budget` says how many there are. activations: name -> function. seed: of what is random
    here; it names no data, which are fresh in every run.
    """
    random = np.random.default_rng(seed)
    sizes = [inputs, *[WIDTH] * LAYERS, classes]
    layers = [[random.normal(0, INIT_SCALE / np.sqrt(a), (a, b)), np.zeros(b)] for a, b in itertools.pairwise(sizes)]
    speeds = [[np.zeros_like(part) for part in layer] for layer in layers]
    function, slope = activations[ACTIVATION], SLOPES[ACTIVATION]
    done = 0
    while (batch := examples.take(BATCH)) is not None:
        x, y = batch
        rate = LEARNING_RATE * schedule(done / examples.budget)
        done += len(x)
        below, sums = [x], []  # the input of each layer, and what it makes of it
        for number, (weights, biases) in enumerate(layers):
            sums.append(below[-1] @ weights + biases)
            if number < len(layers) - 1:
                below.append(function(sums[-1]))
        error = (softmax(sums[-1]) - targets(y, classes)) / len(x)  # (n, classes)
        gradients = []
        for number in reversed(range(len(layers))):
            gradients.append((below[number].T @ error, error.sum(0)))
            if number:
                error = error @ layers[number][0].T * slope(sums[number - 1])
        cut = clipped(gradients)
        for layer, speed, gradient in zip(layers, speeds, reversed(gradients), strict=True):
            layer[0] *= 1 - rate * WEIGHT_DECAY
            for part, moving, step in zip(layer, speed, gradient, strict=True):
                moving *= MOMENTUM
                moving -= rate * cut * step
                part += moving
    return layers, ACTIVATION


def schedule(done):
    """The step size at a share `done` of the run, as a share of LEARNING_RATE."""
    up = min(1.0, (done + 1e-3) / WARMUP) if WARMUP else 1.0
    return min(up, (1 - done) / WARMDOWN) if WARMDOWN else up


def targets(y, classes):
    """(n,) class numbers -> (n, classes) probabilities."""
    return (1 - LABEL_SMOOTHING) * np.eye(classes)[y] + LABEL_SMOOTHING / classes


def softmax(z):
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def clipped(gradients):
    """The factor that brings all gradients together down to length CLIP."""
    if not CLIP:
        return 1.0
    length = np.sqrt(sum((part**2).sum() for pair in gradients for part in pair))
    return min(1.0, CLIP / (length + 1e-12))
