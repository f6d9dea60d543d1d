"""A concept on another base than its own: copies, siblings, other architectures."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax import methods
from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts
from personax.concepts.load_models import load_models
from personax.core.tree import flat
from personax.loading import load_base
from personax.methods import Concept
from tests.loading.make import FILES, write_pipeline
from tests.small_models import write_small

pytestmark = pytest.mark.quick
WORD = Concept("<v1>", "dog", (1212,), (7,), "<v1> dog")


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A base, its copies in fewer bits, a sibling and a smaller one."""
    root = tmp_path_factory.mktemp("bases")
    write_small(root / "base", 0)
    write_small(root / "sibling", 1)
    write_pipeline(root / "smaller", smallest=True)
    for name, dtype in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        shutil.copytree(root / "base", root / name)
        for part, file in FILES.items():
            path = root / name / part / file
            save_file({k: x.astype(dtype) for k, x in load_file(path).items()}, path)
    return root


@pytest.fixture(scope="module")
def bases(disk):
    return {path.name: load_base(path) for path in disk.iterdir()}


def save(folder, base, name="lora", *, copies=True, **arguments):
    method = methods.make(name, **arguments)
    concepts = [WORD] if method.adds_tokens else [Concept("", "dog", (), (), "dog")]
    theta = methods.init(method, jax.random.key(0), base.params, concepts)
    theta = jax.tree.map(lambda leaf: leaf + 0.1, theta)
    artifact.save(
        folder,
        theta,
        concepts,
        method=name,
        method_args=arguments,
        base=base.name,
        fingerprint=base.fingerprint,
        **({"copies": base.copies()} if copies else {}),
    )
    return str(folder)


def bind(base, source, **options):
    return with_concepts(from_base(base), base, [source], **options)


def changed(model, base):
    old = flat(base.params)
    return [path for path, leaf in flat(model.denoiser.params).items()
            if leaf is not old[path]]  # fmt: skip


@pytest.mark.parametrize("copy", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["lora", "custom_diffusion"])
def test_copies_in_fewer_bits_are_the_base(bases, tmp_path, capsys, copy, name):
    assert bases[copy].fingerprint != bases["base"].fingerprint
    original = save(tmp_path / "a", bases["base"], name)
    assert changed(bind(bases[copy], original), bases[copy])
    # Concepts saved before have no fingerprints of copies.
    old = save(tmp_path / "b", bases[copy], name, copies=False)
    assert changed(bind(bases["base"], old), bases["base"])
    assert capsys.readouterr().err == ""


def test_one_changed_number_is_no_copy(disk, bases, tmp_path, capsys):
    """The rounded fingerprint covers every tensor."""
    source = save(tmp_path / "a", bases["base"])
    shutil.copytree(disk / "float16", tmp_path / "other")
    path = tmp_path / "other" / "unet" / FILES["unet"]
    tensors = load_file(path)
    tensors["conv_in.bias"][0] += np.float16(0.01)
    save_file(tensors, path)
    bind(load_base(tmp_path / "other"), source)
    assert "whose weights differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("lora", {}), ("textual_inversion", {}), ("infusion", {}), ("oft", {"blocks": 2})],
)
def test_adapters_and_words_work_on_a_sibling_with_one_warning(
    bases, tmp_path, capsys, name, arguments
):
    source = save(tmp_path / "a", bases["base"], name, **arguments)
    model = bind(bases["sibling"], source)
    assert changed(model, bases["sibling"]) or model.denoiser.controls
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"personax: {source} was trained on the base {bases['base'].name!r}, whose "
        "weights differ from this base's; it is applied as it is."
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("custom_diffusion", {}), ("dreambooth", {"train": "unet/conv_in/.*"})],
)
def test_whole_weights_need_any_base(bases, tmp_path, capsys, name, arguments):
    source = save(tmp_path / "a", bases["base"], name, **arguments)
    with pytest.raises(ValueError, match=r"replaces whole parameters.*--any_base"):
        bind(bases["sibling"], source)
    model = bind(bases["sibling"], source, any_base=True)
    assert changed(model, bases["sibling"])
    assert "whose weights differ" in capsys.readouterr().err


def test_another_architecture_is_refused(bases, tmp_path):
    for name in ("lora", "textual_inversion"):
        source = save(tmp_path / name, bases["base"], name)
        if name == "lora":
            with pytest.raises(ValueError, match="whose architecture differs"):
                bind(bases["smaller"], source, any_base=True)


def test_a_concept_s_base_is_used_unless_one_is_given(disk, bases, tmp_path):
    source = save(tmp_path / "a", bases["base"])
    named = load_models(None, [f"{source}@0.5"])
    assert named.base.fingerprint == bases["base"].fingerprint
    given = load_models(str(disk / "sibling"), [source])
    assert given.base.fingerprint == bases["sibling"].fingerprint
    about = json.loads((tmp_path / "a" / "concept.json").read_text())
    about["base"] = "/nowhere/base"
    (tmp_path / "a" / "concept.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"names the base '/nowhere/base'.*--base"):
        load_models(None, [source])
