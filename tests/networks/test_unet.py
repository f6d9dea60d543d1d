"""The UNet's config, names and seam, without torch."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.control.detach import DetachBOS
from personax.core.tree import count, flat
from personax.networks.attention import Edit
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.unet import UNetConfig, init_unet, unet
from personax.networks.vae import VAEConfig, init_vae

MANIFEST = pathlib.Path(__file__).parent.parent / "golden" / "sd15_manifest.json"
pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("part", "init", "config", "numbers"),
    [
        ("unet", init_unet, UNetConfig(), 859_520_964),
        ("vae", init_vae, VAEConfig(), 83_653_863),
        ("text_encoder", init_clip_text, CLIPTextConfig(), 123_060_480),
    ],
)
def test_init_has_the_names_and_shapes_of_the_published_checkpoint(
    part, init, config, numbers
):
    published = json.loads(MANIFEST.read_text())[part]
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), config))
    ours = {}
    for path, leaf in flat(shapes).items():
        *module, name = path.split("/")
        shape = leaf.shape
        if name == "kernel":  # (in, out) and HWIO, where torch has (out, in) and OIHW
            shape = shape[::-1] if len(shape) == 2 else (*shape[3:1:-1], *shape[:2])
        if name in ("kernel", "scale", "embedding"):
            name = "weight"
        ours[".".join([*module, name])] = list(shape)
    assert ours == published
    assert count(shapes) == numbers


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}, "AttnDownBlock2D"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "mid_block_type"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type"),
        ({"only_cross_attention": True}, "only_cross_attention"),
        ({"an_option_of_tomorrow": 3}, "an_option_of_tomorrow"),
        ({"layers_per_block": [1, 2, 3]}, "layers_per_block"),
    ],
)
def test_an_option_that_would_change_the_numbers_is_refused_by_name(options, named):
    published = {
        "block_out_channels": [32, 64],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }
    UNetConfig.from_json(published)
    with pytest.raises(ValueError, match=named):
        UNetConfig.from_json({**published, **options})


@pytest.fixture
def call(tiny_spec, tiny_params):
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 4))
    text = jax.random.normal(jax.random.key(2), (2, 12, 24))

    def run(text=text, **options):
        # As a closure, so that an array or a function of the site may be the text.
        def forward(params, x, t):
            return unet(params, tiny_spec.unet, x, t, text, **options)

        return jax.jit(forward)(tiny_params["unet"], x, jnp.array([10.0, 900.0]))

    return run


@dataclasses.dataclass
class Asks:
    """Notes every site it is asked about and edits nothing."""

    sites: list

    def __call__(self, site, context):
        self.sites.append(site)
        return Edit()


def test_a_control_is_asked_once_for_every_site_by_its_published_name(call):
    asks = Asks([])
    call(controls=(asks,))
    assert [site.name.split("/transformer")[0] for site in asks.sites] == [
        name
        for block in (
            "down_blocks/0/attentions/0",
            "mid_block/attentions/0",
            "up_blocks/1/attentions/0",
            "up_blocks/1/attentions/1",
        )
        for name in (block, block)
    ]
    assert [site.kind for site in asks.sites] == ["self", "cross"] * 4
    assert [site.place for site in asks.sites] == ["down"] * 2 + ["mid"] * 2 + [
        "up"
    ] * 4
    assert [site.pixels for site in asks.sites] == [64, 64, 16, 16] + [64] * 4


def test_an_empty_edit_compiles_to_the_same_program(call):
    plain = jax.make_jaxpr(lambda: call())()
    edited = jax.make_jaxpr(lambda: call(controls=(Asks([]),)))()
    assert str(plain) == str(edited)


def test_kept_probabilities_are_those_of_a_softmax(call):
    def keep(site, context):
        return Edit(keep=site.kind == "cross")

    y, captured = call(controls=(keep,))
    assert len(captured) == 4
    for probs in captured.values():
        np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(y, call()[0], atol=1e-5)


def test_a_site_can_read_a_text_of_its_own(call):
    one = jax.random.normal(jax.random.key(2), (2, 12, 24))
    other = jax.random.normal(jax.random.key(3), (2, 12, 24))
    everywhere, _ = call(text=lambda site: one)
    np.testing.assert_allclose(everywhere, call(text=one)[0], atol=1e-6)
    mixed, _ = call(text=lambda site: other if site.place == "mid" else one)
    assert np.abs(mixed - everywhere).max() > 1e-4


def test_stop_first_changes_no_value_and_stops_the_first_tokens_gradient(call):
    text = jax.random.normal(jax.random.key(2), (2, 12, 24))

    def gradient(controls):
        def loss(text):
            return jnp.square(call(text=text, controls=controls)[0]).mean()

        return jax.jit(jax.value_and_grad(loss))(text)

    (value, free), (same, stopped) = gradient(()), gradient((DetachBOS(),))
    np.testing.assert_allclose(value, same, rtol=1e-6)
    assert np.abs(free[:, 0]).max() > 0
    assert np.abs(stopped[:, 0]).max() == 0
    np.testing.assert_allclose(stopped[:, 1:], free[:, 1:], atol=1e-6)
