"""Tensors, adapters, concepts and models."""

import functools
import io
import pathlib
import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import save

from benchmarks.fuzz_readers.reader import Files, Reader, each, written
from personax import methods
from personax.concepts import artifact, formats
from personax.loading import embedded, load_base, load_clip
from personax.loading.pickles import read_pickle, tensors_of
from personax.loading.stored import open_safetensors
from personax.methods import Concept
from personax.metrics.classifier import load_classifier
from personax.networks.tokenizer import load_tokenizer


def _tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.normal(size=(4, 3)).astype(np.float32),
        "b": np.ones((2, 2, 1, 1), np.float16),
        "empty": np.zeros((0, 3), np.float32),
        "step": np.array([7], np.int64),
    }


def _read_tensors(folder: pathlib.Path) -> None:
    for tensor in open_safetensors(folder / "dog.safetensors").values():
        tensor.astype(np.float64).sum()


class _Global(NamedTuple):
    """Pickled as the name of something that is not there to be imported."""

    module: str
    name: str


_Pickler: Any = pickle._Pickler  # pyright: ignore[reportAttributeAccessIssue]


class _Torch(_Pickler):
    """torch.save's pickles, without torch: arrays become tensors of `storages`."""

    def __init__(self, file: io.BytesIO, storages: dict[str, np.ndarray], old: bool):
        super().__init__(file, protocol=2)
        self.storages, self.old = storages, old

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        kind = _Global("torch", "FloatStorage")
        pid = ("storage", kind, obj.key, "cpu", self.storages[obj.key].size)
        return (*pid, None) if self.old else pid

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, np.ndarray):
            key = str(len(self.storages))
            self.storages[key] = obj
            strides = tuple(stride // obj.itemsize for stride in obj.strides)
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
            self.save((_Storage(key), 0, obj.shape, strides, False, OrderedDict()))
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


class _Storage(NamedTuple):
    key: str


def _pickled(value: Any) -> bytes:
    """A file of torch.save's, a zip."""
    program, storages, buffer = io.BytesIO(), {}, io.BytesIO()
    _Torch(program, storages, old=False).dump(value)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", program.getvalue())
        archive.writestr("archive/byteorder", b"little")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return buffer.getvalue()


def _pickled_before(value: Any) -> bytes:
    """A file of torch.save's from before torch 1.6."""
    buffer, storages = io.BytesIO(), {}
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, buffer, protocol=2)
    _Torch(buffer, storages, old=True).dump(value)
    pickle.dump(list(storages), buffer, protocol=2)
    for array in storages.values():
        buffer.write(array.size.to_bytes(8, "little") + array.tobytes())
    return buffer.getvalue()


_MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


@functools.cache
def _pickles() -> list[Files]:
    value = {"state_dict": {"w": _MATRIX, "n": {"b": _MATRIX[0]}}, "step": 3, "x": {1}}
    return [{"dog.pt": _pickled(value)}, {"dog.pt": _pickled_before(value)}]


def _read_pickle(folder: pathlib.Path) -> None:
    for tensor in tensors_of(
        read_pickle(folder / "dog.pt"), folder / "dog.pt"
    ).values():
        tensor.astype(np.float64).sum()


_base = functools.cache(load_base)


@functools.cache
def _adapters() -> list[Files]:
    unet = _base().params["unet"]
    block = unet["down_blocks"]["0"]["attentions"]["0"]["transformer_blocks"]["0"]
    rows, columns = block["attn2"]["to_k"]["kernel"].shape
    width = _base().spec.text_encoder.hidden_size
    down, up = np.ones((2, rows), np.float32), np.ones((columns, 2), np.float32)
    site = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    dotted = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    kohya = {
        f"lora_unet_{site}.lora_down.weight": down,
        f"lora_unet_{site}.lora_up.weight": up,
        f"lora_unet_{site}.alpha": np.array(2, np.float32),
    }
    peft = {f"{dotted}.lora_A.weight": down, f"{dotted}.lora_B.weight": up}
    word = np.ones(width, np.float32)
    web = {"string_to_param": {"*": word[None]}, "name": "dog", "step": 9}
    inversion = _pickled({"<v1>": word})
    custom = {
        "modifier_token_id": [7],
        "modifier_token": {"<v1>": word},
        "unet": {f"{dotted.removeprefix('unet.')}.weight": up @ down},
    }
    return [
        {"dog.safetensors": save(kohya, {"ss_network_dim": "2"})},
        {"dog.safetensors": save(peft)},
        {"dog.safetensors": save({"emb_params": word[None]})},
        {"dog.safetensors": save({"<v1>": word})},
        *({"dog.pt": _pickled(each)} for each in (web, kohya, custom)),
        {"dog.bin": inversion},
    ]


def _read_adapter(folder: pathlib.Path) -> None:
    base = _base()
    (path,) = folder.iterdir()
    size = base.tokenizer.size
    formats.read(path, base.params, base.spec.unet, size=size, allow_pickle=True)


def _concept_writer(name: str, before: bool = False, **arguments: Any) -> Callable:
    def write(folder: pathlib.Path) -> None:
        base = _base()
        concept = Concept("<v1>", "dog", (base.tokenizer.size,), (320,), "<v1> dog")
        method = methods.make(name, **arguments)
        theta = methods.init(method, jax.random.key(0), base.params, [concept])
        options = {
            **{"method": name, "method_args": arguments, "base": "emoji"},
            **{"fingerprint": base.fingerprint, "step": 1, "prompts": []},
        }
        if before:
            artifact.save(folder / "before", theta, [concept], **options)
            options["before"] = [f"<v2>={folder / 'before'}@0.5"]
        artifact.save(folder / "dog", theta, [concept], **options)

    return write


_concepts = written(
    _concept_writer("textual_inversion"),
    _concept_writer("lora", rank=1),
    _concept_writer("textual_inversion", before=True),
)


def _read_concept(folder: pathlib.Path) -> None:
    base, path = _base(), folder / "dog"
    artifact.origin(path)
    artifact.digest(path)
    for source in artifact.earlier(path):
        artifact.load(source.path, base.params, base.fingerprint)
    artifact.load(path, base.params, base.fingerprint)


# Models.


def _configs_of(folder: pathlib.Path, suffixes: tuple[str, ...]) -> Files:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in suffixes
    }


def _link_weights(source: pathlib.Path, folder: pathlib.Path) -> None:
    for path in source.rglob("*.safetensors"):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)


def _model(part: str, load: Callable[[pathlib.Path], Any]) -> Reader:
    """A model whose configs are damaged and whose weights are not."""

    @functools.cache
    def seeds() -> list[Files]:
        files = _configs_of(embedded(part), (".json",))
        files = {k: v for k, v in files.items() if not k.startswith("tokenizer/")}
        tokenizer = embedded("pipeline") / "tokenizer"
        kept = _configs_of(tokenizer, (".json", ".txt"))
        return [files | {f"_tokenizer/{name}": data for name, data in kept.items()}]

    def read(folder: pathlib.Path) -> None:
        (folder / "_tokenizer").rename(folder / "tokenizer")
        if part == "clip":  # transformers' layout
            shutil.copytree(folder / "tokenizer", folder, dirs_exist_ok=True)
        _link_weights(embedded(part), folder)
        load(folder)

    return Reader(seeds, read)


def _tokenizers() -> list[Files]:
    return [_configs_of(embedded("pipeline") / "tokenizer", (".json", ".txt"))]


READERS: dict[str, Reader] = {
    "safetensors": Reader(
        each(
            "dog.safetensors", lambda: [save(_tensors()), save(_tensors(), {"x": "1"})]
        ),
        _read_tensors,
    ),
    "pickles": Reader(_pickles, _read_pickle),
    "adapters": Reader(_adapters, _read_adapter),
    "concepts": Reader(_concepts, _read_concept),
    "bases": _model("pipeline", load_base),
    "clips": _model("clip", load_clip),
    "classifiers": _model("classifier", load_classifier),
    "tokenizers": Reader(_tokenizers, load_tokenizer),
}
