"""Concepts bound to a base: one, several, and one trained on top of another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.concepts import artifact
from personax.concepts.bind import Model, from_base, with_concepts, with_words
from personax.control.residual import Residual
from personax.core.tree import flat
from personax.methods import Concept
from personax.methods.parts.tokens import TABLE
from personax.networks.tokenizer import ids_of, tokenize
from personax.sampling.prompt_terms import to_prompt
from tests.untrained import save_untrained

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def plain(emoji):
    return from_base(emoji)


def perturbed(theta, seed):
    """Theta plus random changes."""
    rng = np.random.default_rng(seed)

    def move(x):  # in numpy, which compiles nothing for every shape
        step = 0.1 * rng.standard_normal(x.shape, np.float32)
        return jnp.asarray(np.asarray(x) + step)

    return jax.tree.map(move, theta)


def save_trained(
    folder, emoji, model, name, word="<v1>", *, seed, before=(), **arguments
):
    """(the folder of a concept, the model with it bound by hand)."""
    method = methods.make(name, **arguments)
    size = emoji.tokenizer.size
    known = sum(len(p.ids) for p in model.tokenizer.placeholders if p.ids[0] >= size)
    ids = (size + known,) if method.adds_tokens else (7,)
    concepts = [Concept(word, "dog", ids, (7,), f"{word} dog")]
    params = model.denoiser.params
    theta = perturbed(
        methods.init(method, jax.random.key(seed), params, concepts), seed
    )
    artifact.save(
        folder,
        theta,
        concepts,
        method=name,
        method_args=arguments,
        base=emoji.name,
        fingerprint=emoji.fingerprint,
        before=before,
    )
    denoiser = methods.bind(method, model.denoiser, theta)
    bound = Model(denoiser, with_words(model.tokenizer, concepts))
    return str(folder), bound


def assert_same(ours, want, **tolerance):
    ours, want = flat(ours.params), flat(want.params)
    assert ours.keys() == want.keys()
    for path, leaf in want.items():
        if ours[path] is leaf:
            continue
        np.testing.assert_allclose(
            ours[path], leaf, err_msg=path, **{"rtol": 0, **tolerance}
        )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("custom_diffusion", {}),
        ("lora", {}),
        (
            "dreambooth",
            {"train": "unet/conv_in/.*", "text_encoder": True, "words": True},
        ),
    ],
)
def test_one_concept_is_bitwise_what_bind_gives(
    emoji, plain, tmp_path, name, arguments
):
    folder, bound = save_trained(
        tmp_path / "a", emoji, plain, name, seed=1, **arguments
    )
    model = with_concepts(plain, emoji, [folder])
    assert_same(model.denoiser, bound.denoiser)
    assert model.denoiser.controls == bound.denoiser.controls
    assert model.tokenizer == bound.tokenizer


def test_two_low_rank_concepts_are_summed(emoji, plain, tmp_path):
    first, a = save_trained(tmp_path / "a", emoji, plain, "lora", seed=1)
    second, b = save_trained(tmp_path / "b", emoji, plain, "lora", "<v2>", seed=2)
    model = with_concepts(plain, emoji, [first, second])
    base, a, b = (flat(m.denoiser.params) for m in (plain, a, b))
    changed = 0
    for path, leaf in flat(model.denoiser.params).items():
        if a[path] is base[path]:
            assert leaf is base[path]
            continue
        changed += 1
        want = np.float64(base[path])
        for one in (a, b):
            want = want + (np.float64(one[path]) - np.float64(base[path]))
        np.testing.assert_allclose(leaf, want, rtol=0, atol=1e-6, err_msg=path)
        assert np.abs(leaf - a[path]).max() > 1e-3
    assert changed


def test_keys_values_and_tokens_of_two_concepts_are_combined(emoji, plain, tmp_path):
    first, a = save_trained(tmp_path / "a", emoji, plain, "custom_diffusion", seed=1)
    second, b = save_trained(
        tmp_path / "b", emoji, plain, "custom_diffusion", "<v2>", seed=2
    )
    model = with_concepts(plain, emoji, [first, second])
    base, a, b = (flat(m.denoiser.params) for m in (plain, a, b))
    ours = flat(model.denoiser.params)
    path = next(path for path in ours if path.endswith("attn2/to_k/kernel"))
    want = a[path] + (b[path] - base[path])
    np.testing.assert_allclose(ours[path], want, rtol=0, atol=1e-6)
    # Both were row `size` where they were trained; the second one's follows here.
    size = emoji.tokenizer.size
    assert ids_of(model.tokenizer, "<v1>") == (size,)
    assert ids_of(model.tokenizer, "<v2>") == (size + 1,)
    words = jnp.concatenate([base[TABLE], a[TABLE][size:], b[TABLE][size:]])
    np.testing.assert_array_equal(ours[TABLE], words)
    assert len(model.denoiser.controls) == 2


def test_one_word_for_two_concepts_is_refused_with_advice(emoji, plain, tmp_path):
    sources = [
        save_trained(
            tmp_path / f"{seed}", emoji, plain, "textual_inversion", seed=seed
        )[0]
        for seed in (1, 2)
    ]
    with pytest.raises(ValueError, match=f"another name: .* '<v2>={sources[1]}'"):
        with_concepts(plain, emoji, sources)


def test_a_source_can_rename_its_word(emoji, plain, tmp_path):
    sources = [
        save_trained(tmp_path / f"{seed}", emoji, plain, "textual_inversion", seed=seed)
        for seed in (1, 2)
    ]
    (first, _), (second, bound) = sources
    model = with_concepts(plain, emoji, [first, f"<v2>={second}"])
    (row,) = ids_of(model.tokenizer, "<v2>")
    np.testing.assert_array_equal(
        flat(model.denoiser.params)[TABLE][row],
        flat(bound.denoiser.params)[TABLE][-1],
    )


def test_an_equals_sign_in_a_folder_name_does_not_rename(emoji, plain, tmp_path):
    folder = tmp_path / "lr=1e-4" / "a"
    source, bound = save_trained(folder, emoji, plain, "textual_inversion", seed=1)
    model = with_concepts(plain, emoji, [source])
    assert model.tokenizer == bound.tokenizer
    renamed = with_concepts(plain, emoji, [f"<v2>={source}"]).tokenizer
    assert [other.word for other in renamed.placeholders] == ["<v2>"]


def test_an_alias_needs_no_row(emoji, plain, tmp_path):
    folder, _ = save_trained(tmp_path / "a", emoji, plain, "lora", seed=1)
    model = with_concepts(plain, emoji, [folder])
    assert ids_of(model.tokenizer, "a <v1> dog")[1] == 7
    assert flat(model.denoiser.params)[TABLE] is flat(plain.denoiser.params)[TABLE]


def test_a_concept_loads_those_it_was_trained_on_top_of(emoji, plain, tmp_path):
    first, a = save_trained(tmp_path / "a", emoji, plain, "custom_diffusion", seed=1)
    second, by_hand = save_trained(
        tmp_path / "b",
        emoji,
        a,
        "custom_diffusion",
        "<v2>",
        seed=2,
        before=[tmp_path / "a"],
    )
    model = with_concepts(plain, emoji, [second])
    assert_same(model.denoiser, by_hand.denoiser)
    assert model.tokenizer == by_hand.tokenizer
    assert len(model.tokenizer.placeholders) == 2
    with pytest.raises(ValueError, match="exists"):
        with_concepts(plain, emoji, [first, second])


def test_several_concepts_in_one_folder_cannot_be_renamed(emoji, plain, tmp_path):
    size = emoji.tokenizer.size
    concepts = [
        Concept(f"<v{i}>", "dog", (size + i,), (7 + i,), f"<v{i}> dog")
        for i in range(2)
    ]
    method = methods.make("textual_inversion")
    params = plain.denoiser.params
    theta = methods.init(method, jax.random.key(0), params, concepts)
    artifact.save(
        tmp_path / "two",
        theta,
        concepts,
        method="textual_inversion",
        method_args={},
        base=emoji.name,
        fingerprint=emoji.fingerprint,
    )
    model = with_concepts(plain, emoji, [str(tmp_path / "two")])
    assert ids_of(model.tokenizer, "<v1>") == (size + 1,)
    with pytest.raises(ValueError, match="holds 2 concepts"):
        with_concepts(plain, emoji, [f"<v3>={tmp_path / 'two'}"])


def save_infusion(folder, emoji, word, *, seed=0, **arguments):
    """The folder of an Infusion concept called by its class."""
    concept = Concept("", word, (), (), word)
    save_untrained(
        folder,
        emoji,
        concept,
        "infusion",
        lambda theta: perturbed(theta, seed),
        **arguments,
    )
    return str(folder)


def residuals(denoiser):
    return [rule for rule in denoiser.controls if isinstance(rule, Residual)]


def test_infusions_are_summed_each_at_its_own_word(emoji, plain, tmp_path):
    dog = save_infusion(tmp_path / "dog", emoji, "dog", seed=1)
    cat = save_infusion(tmp_path / "cat", emoji, "cat", seed=2)
    both = with_concepts(plain, emoji, [dog, cat])
    assert [concept.handle for concept in both.concepts] == ["dog", "cat"]
    assert [rule.concept_offset for rule in residuals(both.denoiser)] == [0, 1]
    assert not residuals(both.denoiser.reference)
    assert both.denoiser.reference.reference is None
    marks = to_prompt(both, "a dog next to a cat").concept_mask
    assert [list(np.flatnonzero(each)) for each in marks[:, 0]] == [[2], [6]]
    assert to_prompt(both, "a dog", marked=False).concept_mask is None


def test_two_infusions_of_one_class_can_be_renamed(emoji, plain, tmp_path):
    first = save_infusion(tmp_path / "first", emoji, "teddy bear", seed=1)
    second = save_infusion(tmp_path / "second", emoji, "teddy bear", seed=2)
    both = with_concepts(plain, emoji, [f"<v1>={first}", f"<v2>={second}"])
    marks = to_prompt(both, "a <v1> next to a <v2> and a teddy bear").concept_mask[:, 0]
    assert [list(np.flatnonzero(each)) for each in marks] == [[2, 3], [7, 8]]
    plainly = "a teddy bear next to a teddy bear and a teddy bear"
    ids = [
        ids_of(both.tokenizer, text)
        for text in ("a <v1> next to a <v2> and a teddy bear", plainly)
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("frozen_maps", [True, False])
def test_two_infusions_at_one_word_are_refused_with_advice(
    emoji, plain, tmp_path, frozen_maps
):
    first, second = (
        save_infusion(tmp_path / name, emoji, "dog", seed=seed, frozen_maps=frozen_maps)
        for seed, name in enumerate(("first", "second"), start=1)
    )
    with pytest.raises(ValueError, match=r"called 'dog' as well.*<v2>="):
        with_concepts(plain, emoji, [first, second])
    both = with_concepts(plain, emoji, [first, f"<v2>={second}"])
    assert [concept.handle for concept in both.concepts] == ["dog", "<v2>"]


def test_other_methods_may_share_a_class_word(emoji, plain, tmp_path):
    """Without a placeholder their changes of the weights are summed."""
    sources = []
    for name, word in (("a", "dog"), ("b", "dog"), ("c", "cat")):
        concept = Concept("", word, (), (), word)
        method = "infusion" if word == "cat" else "lora"
        save_untrained(tmp_path / name, emoji, concept, method)
        sources.append(str(tmp_path / name))
    both = with_concepts(plain, emoji, sources)
    assert [concept.handle for concept in both.concepts] == ["dog", "dog", "cat"]


def test_a_model_without_text_is_not_combined_with_others(emoji, plain, tmp_path):
    concept = Concept("", "dog", (), (), "dog")
    arguments = {"null_norm": "token_mean"}
    method = methods.make("concept_centric", **arguments)
    null = jnp.asarray(tokenize(emoji.tokenizer, [""]))
    prepared = methods.saved(method, methods.prepare(method, plain.denoiser, null))
    textless, low = tmp_path / "textless", tmp_path / "low"
    save_untrained(
        textless, emoji, concept, "concept_centric", prepared=prepared, **arguments
    )
    save_untrained(low, emoji, concept, "lora")
    with_concepts(plain, emoji, [str(textless)])
    for sources in ([textless, low], [low, textless]):
        with pytest.raises(ValueError, match="concept_centric cannot be combined"):
            with_concepts(plain, emoji, list(map(str, sources)))


def test_the_frozen_stream_has_the_weights_of_all_concepts_whatever_their_order(
    emoji, plain, tmp_path
):
    dog = save_infusion(tmp_path / "dog", emoji, "dog")
    arguments = {"rank": 1, "targets": ("attention",)}
    low, bound = save_trained(
        tmp_path / "low", emoji, plain, "lora", seed=3, **arguments
    )
    for sources in ([dog, low], [low, dog]):
        model = with_concepts(plain, emoji, sources)
        assert_same(model.denoiser, bound.denoiser, rtol=0, atol=1e-6)
        assert_same(model.denoiser.reference, bound.denoiser, rtol=0, atol=1e-6)
        assert not residuals(model.denoiser.reference)
        (rule,) = residuals(model.denoiser)
        assert rule.concept_offset == sources.index(dog)
