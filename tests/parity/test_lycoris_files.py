"""LyCORIS files and PEFT's adapter folders, against the programs that write them.

lycoris-lora or peft changes diffusers' UNet, with random factors, and saves; our UNet
with the saved file bound predicts what theirs does, within 1e-4.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from safetensors.torch import load_file, save_file  # noqa: E402

from personax.concepts.bind import from_base, with_concepts  # noqa: E402
from personax.core.tree import flat  # noqa: E402
from personax.diffusion.denoiser import Prompt, network  # noqa: E402
from personax.loading import load_base  # noqa: E402
from tests.small_models import write_small  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, of many kinds
TARGETS = ["to_q", "to_k", "to_out.0", "conv1", "proj_in", "ff.net.2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("lycoris") / "base")


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 8, 8, 4), np.float32)
    return x, rng.standard_normal((2, 7, 16), np.float32)


@pytest.fixture
def unet(folder):
    return diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")


_network = jax.jit(network)  # one compilation for all files


def ours(base, inputs, *sources):
    model = with_concepts(from_base(base), base, [str(each) for each in sources])
    x, text = map(jnp.asarray, inputs)
    out, _ = _network(model.denoiser, x, jnp.full(2, 400.0), Prompt(text))
    changed = [
        path
        for path, leaf in flat(model.denoiser.params).items()
        if leaf is not flat(base.params)[path]
    ]
    return np.asarray(out), changed


def theirs(unet, inputs):
    x, text = inputs
    with torch.no_grad():
        sample = torch.tensor(x.transpose(0, 3, 1, 2))
        out = unet(sample, 400, torch.tensor(text)).sample
    return out.numpy().transpose(0, 2, 3, 1)


def randomise(parameters, scale=0.3):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in parameters:
            noise = torch.randn(each.shape, generator=generator)
            each += scale * noise


def assert_same(base, unet, inputs, source):
    """The predictions agree, differ from the base's, and all targets changed."""
    other = theirs(unet, inputs)
    own, changed = ours(base, inputs, source)
    np.testing.assert_allclose(own, other, rtol=0, atol=1e-4)
    plain, _ = ours(base, inputs)
    assert np.abs(plain - other).max() > 2e-3
    return changed


def lycoris(unet, algo, **options):
    """(a network that changes the UNet, its state dict)."""
    package = pytest.importorskip("lycoris")
    package.LycorisNetwork.apply_preset(
        {
            "enable_conv": True,
            "target_module": ["Transformer2DModel", "ResnetBlock2D"],
            "unet_target_module": [],
        }
    )
    options = {"linear_dim": 3, "linear_alpha": 2.0, "conv_dim": 2} | options
    net = package.create_lycoris(unet, 1.0, conv_alpha=1.0, algo=algo, **options)
    net.apply_to()
    randomise(net.parameters())
    net.eval()
    return net


@pytest.mark.parametrize(
    ("algo", "options"),
    [
        ("lora", {}),
        ("lora", {"use_tucker": True}),
        ("lora", {"dora_wd": True}),
        ("lora", {"dora_wd": True, "wd_on_output": False}),
        ("loha", {}),
        ("loha", {"use_tucker": True}),
        ("loha", {"dora_wd": True}),
        ("lokr", {"factor": 2}),
        ("lokr", {"factor": 2, "linear_dim": 1, "conv_dim": 1, "use_tucker": True}),
        ("lokr", {"factor": 2, "linear_dim": 1, "decompose_both": True}),
        ("lokr", {"factor": 2, "full_matrix": True}),
        ("ia3", {}),
        ("ia3", {"train_on_input": True}),
        ("full", {}),
        ("diag-oft", {}),
        ("diag-oft", {"constraint": 0.02}),
        ("diag-oft", {"rescaled": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_lycoris(base, unet, inputs, tmp_path, algo, options):
    net = lycoris(unet, algo, **options)
    tensors = {k: v.contiguous() for k, v in net.state_dict().items()}
    save_file(tensors, tmp_path / "a.safetensors")
    changed = assert_same(base, unet, inputs, tmp_path / "a.safetensors")
    assert {path.partition("/kernel")[1] for path in changed} >= {"/kernel"}
    assert any("conv1" in path for path in changed)


def test_kohya_prefixes_of_lycoris(base, unet, inputs, tmp_path):
    net = lycoris(unet, "loha")
    tensors = {
        name.replace("lycoris_", "lora_unet_", 1): tensor.contiguous()
        for name, tensor in net.state_dict().items()
    }
    save_file(tensors, tmp_path / "a.safetensors")
    assert_same(base, unet, inputs, tmp_path / "a.safetensors")


def configs():
    peft = pytest.importorskip("peft")
    common = {"target_modules": TARGETS}
    scaled = {"r": 3, "alpha": 2, **common}
    patterns = {"rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_k": 5}}
    feedforward = {"feedforward_modules": ["ff.net.2", "conv1"]}
    return {
        "lora": lambda: peft.LoraConfig(r=3, lora_alpha=2, **common),
        "lora_patterns": lambda: peft.LoraConfig(
            r=3, lora_alpha=2, use_rslora=True, **common, **patterns
        ),
        "dora": lambda: peft.LoraConfig(r=3, lora_alpha=2, use_dora=True, **common),
        "loha": lambda: peft.LoHaConfig(**scaled),
        "loha_tucker": lambda: peft.LoHaConfig(use_effective_conv2d=True, **scaled),
        "lokr": lambda: peft.LoKrConfig(**scaled | {"r": 1}, decompose_both=True),
        "lokr_whole": lambda: peft.LoKrConfig(**scaled | {"r": 16}),
        "lokr_tucker": lambda: peft.LoKrConfig(
            use_effective_conv2d=True, **scaled | {"r": 1}
        ),
        "ia3": lambda: peft.IA3Config(**common, **feedforward),
        "oft": lambda: peft.OFTConfig(r=0, oft_block_size=4, **common),
        "oft_exact": lambda: peft.OFTConfig(
            r=0, oft_block_size=4, use_cayley_neumann=False, **common
        ),
        "oft_shared": lambda: peft.OFTConfig(
            r=0, oft_block_size=4, block_share=True, **common
        ),
    }


@pytest.mark.parametrize("name", list(configs()))
def test_peft_folders(base, unet, inputs, tmp_path, name):
    import peft

    model = peft.get_peft_model(unet, configs()[name]())
    trained = [p for p in model.parameters() if p.requires_grad]
    randomise(trained, 0.1 if "oft" in name else 0.3)
    model.eval()
    model.save_pretrained(str(tmp_path / "adapter"))
    modules = [n for n, _ in unet.named_modules() if n.endswith("base_layer")]
    if "oft" in name:  # unmerged, its 3x3 convolutions predict otherwise
        model = model.merge_and_unload()
    changed = assert_same(base, model, inputs, tmp_path / "adapter")
    kernels = [path for path in changed if path.endswith("kernel")]
    assert len(kernels) == len(modules)


def test_a_folder_s_tensors_without_its_config_have_no_scale(base, unet, tmp_path):
    import peft

    model = peft.get_peft_model(unet, configs()["lora"]())
    model.save_pretrained(str(tmp_path / "adapter"))
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{")
    assert tensors
    with pytest.raises(ValueError, match=r"adapter_config.json is not valid JSON"):
        with_concepts(from_base(base), base, [str(tmp_path / "adapter")])
