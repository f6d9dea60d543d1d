"""The Python interface: load a model, bind concepts, sample pictures."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from personax.concepts.bind import from_base, with_concepts
from personax.concepts.load_models import Loaded
from personax.loading import EMBEDDED
from personax.sampling.grammar import parse_term
from personax.sampling.img2img import PictureOptions, start_from_picture
from personax.sampling.options import ModelOptions, SamplingOptions
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.setup import load as load_models
from personax.sampling.setup import local_mesh, make_setup

Source = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A base with concepts bound to it, on the local devices; made by `load`."""

    loaded: Loaded
    mesh: Mesh
    concepts: tuple[str, ...] = ()
    any_base: bool = False
    allow_pickle: bool = False

    def with_concepts(self, *sources: Source) -> "LoadedModel":
        """A model that also knows these concepts; this one is unchanged.

        A source is the folder of a concept, or an adapter that another program wrote,
        such as a LoRA's file. "<v2>=FOLDER" gives a concept another placeholder,
        "FOLDER@0.7" a strength. Concepts are summed, as with several `--concept` flags
        of `personax.sample`. Raises FileNotFoundError or ValueError for a folder
        without a concept, a file that cannot be read as a whole, one of another base,
        or concepts that exclude each other.
        """
        concepts = (*self.concepts, *(os.fspath(source) for source in sources))
        base = self.loaded.base
        compute = self.loaded.models["base"].denoiser.spec.compute
        model = with_concepts(
            from_base(base, compute),
            base,
            concepts,
            any_base=self.any_base,
            allow_pickle=self.allow_pickle,
        )
        models = {**self.loaded.models, "base": model}
        loaded = self.loaded._replace(models=models)
        return dataclasses.replace(self, loaded=loaded, concepts=concepts)

    def sample(
        self,
        prompt: str,
        *,
        num_images: int = 4,
        guidance: float = 3.0,
        steps: int = 25,
        solver: str | None = None,
        eta: float = 0.0,
        spacing: str | None = None,
        negative: str = "",
        terms: Sequence[str] = (),
        size: int | tuple[int, int] | None = None,
        image: Source | np.ndarray | None = None,
        mask: Source | np.ndarray | None = None,
        strength: float | None = None,
        batch: int = 8,
        seed: int = 0,
    ) -> UInt8[np.ndarray, "n height width 3"]:
        """uint8 pictures, the ones that `personax.sample` writes for these options.

        Args:
          prompt: the text, with the placeholders of concepts.
          num_images: how many; picture i depends on `seed` and i alone.
          guidance: the weight of the prompt; the rest is the unconditional term's.
          steps: solver steps.
          solver: a name in `personax.diffusion.solvers.SOLVERS`; None: the base's.
          eta: the share of DDPM's noise in DDIM.
          spacing: how the steps are spaced; None: as the base's schedule says.
          negative: replaces the unconditional term's empty prompt.
          terms: further guidance terms, "[MODEL@]WEIGHT:PROMPT".
          size: the side, or (height, width), in pixels; None: the base's.
          image: a picture to start from, a file or a uint8 array [height, width, 3].
          mask: where to repaint `image`, in the same form: white is repainted. An
            inpainting base needs both.
          strength: the share of the steps taken from `image`; None: 0.6, and 1 with a
            mask.
          batch: pictures at a time.

        Raises:
          FileNotFoundError: for a missing picture.
          ValueError: for an unknown placeholder, solver or spacing, an invalid size, or
            a picture or mask that cannot be used or is missing.
        """
        options = SamplingOptions(
            solver=solver,
            eta=eta,
            spacing=spacing,
            steps=steps,
            size=(size, size) if isinstance(size, int) else size,
            negative=negative,
            num_images=num_images,
            batch=batch,
            seed=seed,
        )
        setup = make_setup(self.loaded, self.mesh, options)
        term_specs = [TermSpec(prompt, guidance), *map(parse_term, terms)]
        setup.check(term_specs)
        start = None
        if image is not None:
            start = PictureOptions(image, mask, strength)
        elif mask is not None or strength is not None:
            raise ValueError("A mask or a strength needs an image.")
        setup, picture = start_from_picture(setup, start)
        return setup.draw(setup.terms(term_specs), picture)


def load(
    base: Source = EMBEDDED,
    *,
    models: Mapping[str, Source] | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    allow_pickle: bool = False,
    any_base: bool = False,
    config: Source | None = None,
    vae: Source | None = None,
) -> LoadedModel:
    """Load a pretrained model.

    Args:
      base: "emoji", the model of the package, or a folder, single-file checkpoint or
        Hugging Face id.
      models: {name: base or concept folder}, further models for `terms` of `sample`.
      dtype: of weights and activations; None: float32 on a CPU, else bfloat16.
      variant: which weight files, such as "fp16".
      allow_pickle: read .bin and .ckpt files, with a restricted reader.
      any_base: apply concepts that replace whole parameters to another base than
        theirs; other concepts only give a warning.
      config: where a single-file checkpoint finds its configs.
      vae: a folder or file of an autoencoder, used instead of the base's.

    Raises:
      FileNotFoundError: for a missing file.
      ValueError: for files that are not a model, and for models that do not fit.
    """
    mesh = local_mesh()
    named = {name: os.fspath(source) for name, source in (models or {}).items()}
    reading = {"config": config, "variant": variant, "allow_pickle": allow_pickle}
    reading["vae"] = vae
    options = ModelOptions(
        os.fspath(base), (), named, dtype=dtype, reading=reading, any_base=any_base
    )
    loaded = load_models(options, mesh)
    return LoadedModel(loaded, mesh, any_base=any_base, allow_pickle=allow_pickle)
