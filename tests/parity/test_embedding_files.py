"""Textual Inversion files against diffusers: our text is its text at 1e-4.

diffusers' load_textual_inversion reads each file into transformers' text encoder; the
hidden states of prompts with the word are compared with ours.
"""

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from safetensors.torch import save_file  # noqa: E402
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: E402

from personax.concepts.bind import from_base, with_concepts  # noqa: E402
from personax.diffusion.encode import encode_prompts  # noqa: E402
from personax.loading import load_base  # noqa: E402
from personax.networks.tokenizer import tokenize  # noqa: E402
from tests.small_models import write_small  # noqa: E402

WIDTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("words") / "base")


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return torch.tensor(rng.standard_normal((3, WIDTH), np.float32))


def theirs(folder, path, prompt, **naming):
    """transformers' hidden states after diffusers loaded the word."""
    pipe = diffusers.StableDiffusionPipeline(
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder / "unet"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.load_textual_inversion(str(path.parent), weight_name=path.name, **naming)
    text = pipe.maybe_convert_prompt(prompt, pipe.tokenizer)
    length = pipe.tokenizer.model_max_length
    ids = pipe.tokenizer(
        text, padding="max_length", max_length=length, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        return pipe.text_encoder(ids).last_hidden_state.numpy()


def ours(base, source, *prompts):
    model = with_concepts(from_base(base), base, [str(source)], allow_pickle=True)
    ids = jnp.asarray(tokenize(model.tokenizer, prompts))
    return np.asarray(encode_prompts(model.denoiser, ids).text)


def assert_reads(base, folder, path, word, *others, **naming):
    """Every name of the word gives the text that diffusers' word gives."""
    prompt = "a photo of a {} on the moon"
    want = theirs(folder, path, prompt.format(word), **naming)
    own = ours(base, path, *(prompt.format(each) for each in (word, *others)))
    for each in own:
        np.testing.assert_allclose(each, want[0], rtol=0, atol=1e-4)
    plain = ours(base, path, prompt.format("dog"))
    assert np.abs(plain - want).max() > 1e-2


@pytest.mark.parametrize("count", [1, 3])
def test_learned_embeds_of_diffusers(base, folder, rows, tmp_path, count):
    value = rows[0] if count == 1 else rows[:count]
    path = tmp_path / "learned_embeds.safetensors"
    save_file({"<cat-toy>": value.contiguous()}, path)
    assert_reads(base, folder, path, "<cat-toy>")


@pytest.mark.parametrize("shape", [(WIDTH,), (1, WIDTH), (2, WIDTH)])
def test_a_pickle_named_after_another_word_has_both_names(
    base, folder, rows, tmp_path, shape
):
    count = 2 if shape[0] == 2 else 1
    path = tmp_path / "my-toy.bin"
    torch.save({"<cat-toy>": rows[:count].reshape(shape).clone()}, path)
    assert_reads(base, folder, path, "<cat-toy>", "my-toy")


def test_a1111_s_pt(base, folder, rows, tmp_path):
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(rows)})
    for i, stored in enumerate((parameters, dict(parameters))):
        path = tmp_path / f"toy-{i}.pt"
        values = {
            "string_to_token": {"*": 265},
            "string_to_param": stored,
            "name": "<inner>",
            "step": 500,
            "sd_checkpoint": None,
            "sd_checkpoint_name": None,
        }
        torch.save(values, path)
        if isinstance(stored, dict):  # diffusers opens tensors alone
            assert_reads(base, folder, path, "<inner>", path.stem)
        own = ours(base, path, f"a {path.stem}", "a <inner>")
        np.testing.assert_array_equal(own[0], own[1])


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_emb_params(base, folder, rows, tmp_path, suffix):
    path = tmp_path / f"easy-negative.{suffix}"
    if suffix == "pt":
        torch.save({"emb_params": rows}, path)
    else:
        save_file({"emb_params": rows}, path)
    assert_reads(base, folder, path, "easy-negative", token="easy-negative")


def test_a_token_with_blanks(base, folder, rows, tmp_path):
    path = tmp_path / "learned_embeds.safetensors"
    save_file({"my cat toy": rows}, path)
    want = theirs(folder, path, "a my cat toy")
    own = ours(base, path, "a my cat toy")
    np.testing.assert_allclose(own, want, rtol=0, atol=1e-4)
