"""OFT against peft's, with the exact Cayley map; tolerance 1e-5 of outputs of about 1.

peft has x R with R = (I - P) (I + P)^-1, so its P is our -Q.
"""

import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch

from personax.methods.oft import rotation

TOLERANCE = 1e-5
INPUTS, OUTPUTS = 12, 7


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_a_rotated_linear_layer(blocks):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(INPUTS, OUTPUTS, bias=False))
    W = model[0].weight.detach().numpy().T.copy()
    config = peft.OFTConfig(
        r=blocks,
        oft_block_size=0,
        target_modules=["0"],
        use_cayley_neumann=False,
        bias="none",
    )
    model = peft.get_peft_model(model, config)
    layer = model.base_model.model[0]
    torch.nn.init.normal_(layer.oft_R["default"].weight)
    upper = layer.oft_R["default"].weight.detach().numpy()

    side = INPUTS // blocks
    X = np.zeros((blocks, side, side), np.float32)
    rows, columns = np.triu_indices(side, 1)
    X[:, rows, columns] = -2 * upper

    x = torch.randn(5, INPUTS)
    want = model(x).detach().numpy()
    ours = x.numpy() @ np.asarray(
        rotation(blocks).apply(jnp.asarray(W), jnp.asarray(X))
    )
    np.testing.assert_allclose(ours, want, atol=TOLERANCE)
    assert np.abs(want - x.numpy() @ W).max() > 0.1
