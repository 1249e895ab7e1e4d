"""What the numbers of a page are called, and what they are."""

from __future__ import annotations

TERMS: dict[str, tuple[str, str]] = {
    "surprise": (
        "Surprise",
        "The loss of the memory's attentional bias at the token, at the weights where its gradient is taken: how far the memory's answer to the key was from the value, before it was written.",
    ),
    "answer": ("Norm of the answer", "The length of what the memory answers to the token's query."),
    "lr": ("Learning rate", "θ: what the token's gradient is multiplied by. Zero leaves the token out."),
    "momentum": ("Momentum", "η: the share of the last step that goes into this one."),
    "forgetting": ("Forgetting", "α: the share of the memory's weights that the step lets go."),
    "threshold": ("Threshold", "Where the attentional bias turns from quadratic to linear."),
    "share": ("Share in the window", "What each token of the window counts for in the step."),
    "mix": ("Mix", "The weights of the orders of momentum."),
    "scales": ("Scales", "What the updates of whole weights are multiplied by."),
    "channels": ("Channels", "What each channel of the updates is multiplied by."),
    "residual": ("Residual", "How much of another memory's weights is added where gradients are taken."),
    "transition": ("Transition", "How far the anchor goes towards the newest weights at a boundary."),
    "norm": (
        "Norm of the weights",
        "The Frobenius norm, over all of a head's weights, of those it would answer with; taken behind each stretch of tokens.",
    ),
    "distance": ("Distance from the start", "How far those weights are from the ones before the first token, in the same norm."),
    "bits": ("Bits", "What the token cost the whole model to foretell from those before it: the negative binary logarithm of its probability."),
}

OF_LINES: dict[str, tuple[str, str]] = {
    "surprise": (
        "Surprise",
        "How new the memory finds the line as it stands, from 0 to 1: one half is a typical text of its stream that it has not seen.",
    ),
    "confidence": ("Confidence", "The share of recalls as sharp as this one that were right, as the memory has counted them."),
}

DRAWS = (
    "For the token that reads, at time t, and each earlier token s: the norm of the derivative of the answer's length by the value that s wrote, "
    "|∂|y(t)| / ∂v(s)|, taken by one backward pass through the memory's own steps, with keys, queries and gates as they were. Where the memory is a matrix "
    "with an L2 or dot-product bias this is the exact weight of v(s) in y(t), as in linear attention; in a deeper memory it is a first derivative, which "
    "holds for small changes. For the mean over heads, the weights of all heads are averaged. It is computed for the tokens underlined with dots, and no "
    "others; what was written before the token that a read is traced back to is not looked at, nor are the memory's first weights."
)

RECALLED = (
    "The memory's answer to the line is a vector. The records are those whose embeddings are nearest to it, and the numbers are a softmax of the cosines "
    "over the temperature 0.1, over the five nearest."
)
