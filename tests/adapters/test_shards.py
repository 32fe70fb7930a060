"""Which spans have a gradient, step after step."""

from __future__ import annotations

import torch
from torch import nn

from mifo_ext.adapters.shards import SPAN, Layout


def test_the_spans_with_a_gradient_are_those_of_now() -> None:
    module = nn.ParameterDict({"a": nn.Parameter(torch.zeros(SPAN + 3)), "b": torch.zeros(5)})
    layout = Layout(module)
    first, last = layout.parameters
    places = layout.pieces.place.tolist()
    steps: list[tuple[list[nn.Parameter], list[int], list[int]]] = [
        ([first], [0, 0], [0, 1]),
        ([first, last], [0, 0, 1], [0, 1, 2]),
        ([last], [0], [2]),
        ([], [], []),
        ([last], [0], [2]),
    ]
    for having, tensors, spans in steps:
        for parameter in (first, last):
            parameter.grad = torch.ones_like(parameter) if parameter in set(having) else None
        found = layout.with_gradient()
        assert [id(parameter) for parameter in found.parameters] == [id(p) for p in having]
        assert [gradient.numel() for gradient in found.gradients] == [p.numel() for p in having]
        assert found.pieces.tensor.tolist() == tensors
        assert found.pieces.place.tolist() == [places[span] for span in spans]
        assert found.spans == spans
