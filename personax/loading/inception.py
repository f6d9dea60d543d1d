"""The weights of FID's Inception, from the file that pytorch-fid publishes."""

from pathlib import Path

import jax

from personax.core.files import expand
from personax.core.tree import flat, nest
from personax.core.typing import Params
from personax.loading import files, names
from personax.loading.place import place
from personax.networks.inception import init_inception

_PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
_COUNTER = "num_batches_tracked"  # torch's count of a norm's training steps


def load_inception(path: str | Path, *, allow_pickle: bool = False) -> Params:
    """The parameters in a file, float32: safetensors, or torch's with `allow_pickle`.

    The file has the published names, as they stand in the release "fid_weights" of
    github.com/mseitzer/pytorch-fid (Apache 2.0). torchvision's weights do not fit.
    Raises FileNotFoundError for a missing file, and ValueError for tensors that are
    missing, extra or misshapen.
    """
    source = expand(path)
    if not source.is_file():
        raise FileNotFoundError(
            f"The file {source} does not exist; the weights of FID's Inception are "
            f"published as {_PUBLISHED}."
        )
    stored = files.open_file(source, allow_pickle=allow_pickle)
    stored = {n: tensor for n, tensor in stored.items() if not n.endswith(_COUNTER)}
    template = flat(jax.eval_shape(init_inception, jax.random.key(0)))
    published = {path: names.torch_name(path) for path in template}
    match = names.match(template, published, stored)
    names.report(str(source), [match])
    return nest(place(match.tensors, template, dtype="float32"))
