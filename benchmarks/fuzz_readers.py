"""The readers that `benchmarks.fuzz` tries, each with files that it reads."""

import functools
import io
import json
import pathlib
import pickle
import shutil
import tarfile
import tempfile
import tomllib
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import yaml
from ml_collections import ConfigDict
from PIL import Image
from safetensors.numpy import save

from personax import methods
from personax.concepts import artifact, formats
from personax.core.config import plain
from personax.core.decoding import FORMATS
from personax.core.files import read_lines
from personax.core.images import read_image
from personax.data import concepts
from personax.data.captioned import read_captioned
from personax.data.corpus import read_corpus
from personax.data.files import open_files
from personax.data.headers import read_headers
from personax.data.latents import About, Latents, Record, claim, write_shard
from personax.data.published import read_pairs, read_subjects
from personax.data.subjects import read_prompts
from personax.data.tars import open_tars
from personax.evaluation import preference_study, results
from personax.evaluation.results import EvalResult, Measurement, Sample
from personax.evaluation.train_subjects import TrainJob
from personax.loading import embedded, load_base, load_clip
from personax.loading.pickles import read_pickle, tensors_of
from personax.loading.stored import open_safetensors
from personax.methods import Concept
from personax.metrics.classifier import load_classifier
from personax.metrics.tifa import read_questions
from personax.networks.tokenizer import load_tokenizer
from personax.sampling.guidance_search import resume
from personax.training import workdir
from personax.training.checkpoint import Checkpoints
from personax.training.concept_text import concept_configs
from personax.training.config import (
    ConceptConfig,
    TrainConfig,
    load_config,
    train_config,
)
from personax.training.state import create
from personax.training.writer import Writer

Files = dict[str, bytes]  # {path inside of the input's folder: content}


class Reader(NamedTuple):
    """What is tried: `read(folder)` of a folder with one of the seeds' files."""

    seeds: Callable[[], list[Files]]
    read: Callable[[pathlib.Path], Any]


def _each(name: str, contents: Callable[[], list[bytes]]) -> Callable[[], list[Files]]:
    """Seeds of a single file."""
    return functools.cache(lambda: [{name: data} for data in contents()])


def _text(name: str, *texts: str) -> Callable[[], list[Files]]:
    return _each(name, lambda: [text.encode() for text in texts])


def _one(**texts: str | bytes) -> Callable[[], list[Files]]:
    """One seed of several files; "__" in a name stands for the dot of its suffix."""
    files = {
        name.replace("__", "."): text if isinstance(text, bytes) else text.encode()
        for name, text in texts.items()
    }
    return lambda: [files]


def _written(*writers: Callable[[pathlib.Path], Any]) -> Callable[[], list[Files]]:
    """Seeds as functions write them into a folder."""

    @functools.cache
    def seeds() -> list[Files]:
        found = []
        for write in writers:
            with tempfile.TemporaryDirectory() as scratch:
                folder = pathlib.Path(scratch)
                write(folder)
                found.append(
                    {
                        str(path.relative_to(folder)): path.read_bytes()
                        for path in sorted(folder.rglob("*"))
                        if path.is_file()
                    }
                )
        return found

    return seeds


# Pictures.


def _picture(mode: str = "RGB", kind: str = "PNG", **options: Any) -> bytes:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    if mode == "F":
        image = Image.fromarray(rng.random((20, 24), dtype=np.float32))
    elif mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (20, 24), dtype=np.uint16))
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def _pictures() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    turned = exif.tobytes()
    kinds = {
        "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
        "JPEG": ("RGB", "L", "CMYK"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("RGB", "P", "1"),
        "TIFF": ("RGB", "RGBA", "F", "I;16", "LAB", "CMYK"),
    }
    return [
        *(_picture(mode, kind) for kind, modes in kinds.items() for mode in modes),
        _picture("P", transparency=3),
        _picture(exif=turned, dpi=(300, 300), icc_profile=b"x" * 200),
        _picture("RGB", "JPEG", progressive=True, exif=turned, comment=b"x"),
        _picture("RGB", "WEBP", lossless=True, exif=turned),
        _picture("RGB", "TIFF", compression="tiff_lzw", exif=turned),
        _picture("RGB", "TIFF", compression="jpeg"),
        _picture("1", "TIFF", compression="group4"),
        # Pillow looks at the content, whatever the name says.
        *(_picture("RGB", kind) for kind in _others()),
    ]


def _others() -> list[str]:
    """Further formats that this Pillow writes."""
    Image.init()
    kinds = set(FORMATS) - {"PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP"}
    return sorted(kinds & Image.SAVE.keys())


def _read_picture(folder: pathlib.Path) -> None:
    pixels = read_image(folder / "dog.png")
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def _read_header(folder: pathlib.Path) -> None:
    def read(name: str) -> io.BufferedIOBase:
        return (folder / name).open("rb")

    cache = str(folder / "cache")
    (header,) = read_headers(["dog.png"], ["1"], read, key="dog", cache=cache).values()
    if isinstance(header, str):
        raise ValueError(header)
    assert all(isinstance(side, int) for side in header)


def _read_headers_again(folder: pathlib.Path) -> None:
    """With the cache that an earlier process has left."""
    folder.joinpath("_dog.png").rename(folder / "dog.png")
    _read_header(folder)


def _write_headers(folder: pathlib.Path) -> None:
    (folder / "dog.png").write_bytes(_picture())
    _read_header(folder)
    (folder / "dog.png").rename(folder / "_dog.png")


@functools.cache
def _masks() -> list[Files]:
    masks = [_picture(mode) for mode in ("L", "RGBA", "LA", "1")]
    masks += [_picture("F", "TIFF"), _picture("I;16")]
    return [{"masks/dog.png": mask, "_pictures/dog.png": _picture()} for mask in masks]


def _read_masks(folder: pathlib.Path) -> None:
    folder.joinpath("_pictures").rename(folder / "pictures")
    (mask,) = concepts.masks(str(folder / "masks"), str(folder / "pictures"))
    assert mask.shape == (20, 24)


# Sets of pictures, and texts beside them.


@functools.cache
def _zips() -> list[Files]:
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/dog.png", _picture())
            archive.writestr("a/dog.txt", "a dog")
            archive.writestr("cat.jpg", _picture("RGB", "JPEG"))
            row = json.dumps({"file_name": "cat.jpg", "text": "a cat"})
            archive.writestr("metadata.jsonl", row + "\n")
        seeds.append({"set.zip": buffer.getvalue()})
    return seeds


@functools.cache
def _tars() -> list[Files]:
    files = {
        "0.png": _picture(),
        "0.txt": b"a dog",
        "1.jpg": _picture("RGB", "JPEG"),
        "1.json": json.dumps({"caption": "a cat"}).encode(),
    }
    seeds = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name if form == 0 else f"{'x' * 120}/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        seeds.append({"set.tar": buffer.getvalue()})
    return seeds


def _read_set(open_set: Callable[[str], Any], folder: pathlib.Path, name: str) -> None:
    """All of a set; what cannot be read must be named, too."""
    pictures = open_set(str(folder / name))
    sizes, _ = pictures.sizes(), pictures.digest()
    assert sizes.shape == (len(pictures), 2)
    bool(pictures.captioned)
    for index in range(min(len(pictures), 8)):
        pictures.picture(index)


_JSONL = (
    '{"file_name": "dog.png", "text": "a dog"}\n'
    '{"file_name": "cat.png", "text": "a cat"}\n'
)
_captioned_folders = functools.cache(
    lambda: [
        {"_dog.png": b"", "_cat.png": b"", **texts}
        for texts in (
            {"metadata.jsonl": _JSONL.encode()},
            {"metadata.csv": b'file_name,caption\ndog.png,"a dog, red"\ncat.png,x\n'},
            {"images.txt": b"dog.png\ncat.png\n", "caption.txt": b"a dog\na cat\n"},
            {"dog.txt": b"a dog\n", "cat.caption": b"a cat\n"},
        )
    ]
)


def _read_captions(folder: pathlib.Path) -> None:
    for name in ("dog.png", "cat.png"):
        folder.joinpath(f"_{name}").rename(folder / name)
    read_captioned(folder, caption="")
    concepts.own_pictures(str(folder))


def _read_caption_list(folder: pathlib.Path) -> None:
    (folder / "dog.png").touch()
    for name in ("list.tsv", "list.csv", "list.jsonl"):
        if (folder / name).is_file():
            read_captioned(folder / name, caption="")


_caption_lists = functools.cache(
    lambda: [
        {"list.tsv": b"dog.png\ta dog\n./dog.png\tit\n"},
        {"list.csv": b"file_name,text\ndog.png,a dog\n"},
        {"list.jsonl": b'{"file_name": "dog.png", "caption": ["a dog"]}\n'},
    ]
)


def _write_subjects(folder: pathlib.Path) -> None:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "live.txt").write_text("photo of a {}\na {} in snow\n")
    (folder / "prompts" / "two.txt").write_text("{0} and {1}\n")
    entry = {
        "instance_prompt": "photo of a <new1> dog",
        "class_prompt": "dog",
        "instance_data_dir": "_pictures/pet_dog1",
        "class_data_dir": "_pictures/none",
        "prompt_filename": "prompts/live.txt",
    }
    (folder / "dataset.json").write_text(json.dumps([entry]))
    pair = [[entry, entry, {"prompt_filename_compose": "prompts/two.txt"}]]
    (folder / "dataset_multiconcept.json").write_text(json.dumps(pair))
    listing = (
        "Classes\n\nsubject_name,class\ndog6,dog\n\nPrompts\n\nObject Prompts\n\n"
        "prompt_list = [\n'a {0} {1} in it'.format(unique_token, class_token),\n]\n\n"
        "Live Subject Prompts\n\nprompt_list = [\n"
        "'a {0} {1} there'.format(unique_token, class_token)\n]\n"
    )
    (folder / "prompts_and_classes.txt").write_text(listing)
    (folder / "classes.csv").write_text("dog6,dog,live\n")
    for name in ("_pictures/pet_dog1", "_dog6"):
        (folder / name).mkdir(parents=True)
        (folder / name / "_dog.png").touch()


def _read_subjects(folder: pathlib.Path) -> None:
    shutil.move(folder / "_dog6", folder / "dog6")
    for inner in ("dog6", "_pictures/pet_dog1"):
        (folder / inner / "_dog.png").rename(folder / inner / "dog.png")
    read_subjects(f"dreambooth:{folder}")
    read_subjects(f"custom_concept_101:{folder}")
    read_pairs(f"custom_concept_101:{folder}")
    read_subjects(f"folders:{folder}", ["dog6"])


# Weights.


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


_concepts = _written(
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


# Runs and their files.


@functools.cache
def _train_configs() -> list[Files]:
    values = workdir.record(TrainConfig(method="lora", method_args={"rank": 2}))
    text = yaml.safe_dump(values, sort_keys=False)
    toml = 'base = "emoji"\nmethod = "lora"\nsteps = 3\n[optimizer]\nb1 = 0.5\n'
    assert tomllib.loads(toml)
    return [
        {"run.yaml": text.encode()},
        {"run.json": json.dumps(values).encode()},
        {"run.toml": toml.encode()},
    ]


def _read_config(folder: pathlib.Path) -> None:
    (path,) = folder.iterdir()
    plain(train_config(load_config(path)))


_DATA = {"base": "abc", "pictures 0": "def"}
_CONFIG = TrainConfig(method="lora")


def _write_workdir(folder: pathlib.Path) -> None:
    workdir.claim(folder, _CONFIG, _DATA)
    with Writer(folder, 0) as writer:
        for step in range(8):
            writer.scalars(step, {"loss": 0.5})
    shutil.rmtree(folder / "tensorboard")
    (folder / "concept").mkdir()
    (folder / "concept" / "concept.json").write_text('{"step": 8}')


def _read_workdir(folder: pathlib.Path) -> None:
    workdir.claim(folder, _CONFIG, _DATA)
    workdir.is_finished(folder, 8)
    with Writer(folder, 5) as writer:
        writer.scalars(5, {"loss": 0.5})


def _state() -> Any:
    theta = {"tokens": {"<v1>": np.ones((1, 4), np.float32)}}
    theta = jax.tree.map(jax.numpy.asarray, theta)
    return create(theta, optax.adam(1e-3).init(theta), jax.random.key(0))


def _write_checkpoints(folder: pathlib.Path) -> None:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        for step in (1, 2):
            checkpoints.save(_state(), step)


def _read_checkpoints(folder: pathlib.Path) -> None:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.newest()
        checkpoints.restore(_state())


def _write_journal(folder: pathlib.Path) -> None:
    for subject in ("dog", "cat"):
        result = EvalResult(
            *("lora", subject, "live", "abc", 3, 400, 1.5),
            {"clip_t": Measurement(0.5, None, 4), "kid": Measurement(0.1, 0.2, 4)},
            *("sheets/lora/dog.png", (8, 8), 2, (Sample("a dog", 0, 1),), ("<v1>",)),
        )
        results.append(folder / "cells.jsonl", result)


def _write_taught(folder: pathlib.Path) -> None:
    (folder / "taught.json").write_text('{"seconds": 1.5}')
    (folder / "_concept").mkdir()
    (folder / "_concept" / "theta.safetensors").touch()


def _read_taught(folder: pathlib.Path) -> None:
    (folder / "_concept").rename(folder / "concept")
    job = TrainJob(ConfigDict(), folder)
    if not job.is_done:  # it is trained again
        raise ValueError("taught.json is damaged")
    assert job.seconds < float("inf")


_SEARCH: dict[str, Any] = {"axes": ["a dog"], "seed": 0, "scores": {"text": "a dog"}}
_CELL = {"weights": [1.0], "scores": {"text": 0.5}, "file": "cells/1.png"}
_OTHER = {"weights": [2.0], "file": ""}
_search = _one(
    search__json=json.dumps(_SEARCH),
    cells__jsonl=f"{json.dumps(_CELL)}\n{json.dumps(_CELL | _OTHER)}\n",
)

_QUESTION = {
    **{"kind": "text", "subject": "dog", "left": "a", "right": "b", "id": "q001"},
    **{"prompt": "a dog", "seed": 0, "index": 0, "pictures": "abc"},
}
_KEY = {"format": "personax study 1", "seed": 0, "methods": ["a", "b"]}
_KEY["questions"] = [_QUESTION]
_KEY = {"study": preference_study.digest_of(_KEY), **_KEY}


def _write_study(folder: pathlib.Path) -> None:
    (folder / "study.json").write_text(json.dumps(_KEY))
    votes = {
        **{"format": "personax votes 1", "study": _KEY["study"], "voter": "x"},
        **{"votes": [["q001", "left"]]},
    }
    votes["sum"] = preference_study.checksum(votes["study"], "x", votes["votes"])
    (folder / "votes.json").write_text(json.dumps(votes))


def _read_study(folder: pathlib.Path) -> None:
    key = preference_study.read_key(folder / "study.json")
    preference_study.read_ballots([folder / "votes.json"], key)


def _write_latents(folder: pathlib.Path) -> None:
    about = About(
        **{"source": "folder:x", "split": "train", "pictures": "abc"},
        **{"captioned": True, "count": 5, "sizes": ((16, 16),), "buckets": 0},
        **{"crop": "centre", "flip": True, "vae": "abc", "dtype": "float32"},
        **{"factor": 8, "channels": 4, "shard": 3},
        **{"text_encoder": "abc", "text": (4, 3)},
    )
    folder = folder / "cache"
    claim(folder, about)
    posteriors = np.ones((2, 2, 2, 2, 4), np.float16)
    text, ids = np.ones((4, 3), np.float16), np.arange(4)
    row = Record(0, posteriors, "a dog", text, ids)
    for shard, count in enumerate((3, 1)):
        skipped = ["x.png cannot be read"] * shard
        write_shard(folder, about, shard, [row] * count, skipped)


def _read_latents(folder: pathlib.Path) -> None:
    latents = Latents(folder / "cache")
    latents.digest()
    latents.records(range(len(latents)))


_QUESTIONS = [
    {
        **{"id": "0", "caption": "a dog", "question": "a dog?", "answer": "yes"},
        **{"choices": ["yes", "no"], "element_type": "animal/human"},
    }
]
_LIST = [
    {
        "instance_prompt": "photo of a <new1> cat",
        "class_prompt": "cat",
        "instance_data_dir": "cat",
        "class_data_dir": "cats",
    },
    {"prompt": "photo of a {}", "placeholder": "<v2>", "class_word": "dog"},
]

READERS: Mapping[str, Reader] = {
    "pictures": Reader(_each("dog.png", _pictures), _read_picture),
    "headers": Reader(_each("dog.png", _pictures), _read_header),
    "header_caches": Reader(_written(_write_headers), _read_headers_again),
    "masks": Reader(_masks, _read_masks),
    "zips": Reader(_zips, lambda folder: _read_set(open_files, folder, "set.zip")),
    "tars": Reader(_tars, lambda folder: _read_set(open_tars, folder, "set.tar")),
    "captions": Reader(_captioned_folders, _read_captions),
    "caption_lists": Reader(_caption_lists, _read_caption_list),
    "subjects": Reader(_written(_write_subjects), _read_subjects),
    "corpora": Reader(
        _text("corpus.txt", "a dog\na cat\n", "\ufeffa dog\r\na cat\r\n"),
        lambda folder: read_corpus(str(folder / "corpus.txt")),
    ),
    "prompts": Reader(
        _text("prompts.txt", "photo of a {}\na {} in snow\n"),
        lambda folder: (
            read_lines(folder / "prompts.txt"),
            read_prompts(folder / "prompts.txt"),
        ),
    ),
    "questions": Reader(
        _text("questions.json", json.dumps(_QUESTIONS)),
        lambda folder: read_questions(folder / "questions.json"),
    ),
    "concept_lists": Reader(
        _text("list.json", json.dumps(_LIST)),
        lambda folder: concept_configs(ConceptConfig(), str(folder / "list.json")),
    ),
    "safetensors": Reader(
        _each(
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
    "configs": Reader(_train_configs, _read_config),
    "workdirs": Reader(_written(_write_workdir), _read_workdir),
    "checkpoints": Reader(_written(_write_checkpoints), _read_checkpoints),
    "journals": Reader(
        _written(_write_journal), lambda folder: results.read(folder / "cells.jsonl")
    ),
    "taught": Reader(_written(_write_taught), _read_taught),
    "searches": Reader(_search, lambda folder: resume(folder, _SEARCH)),
    "studies": Reader(_written(_write_study), _read_study),
    "latents": Reader(_written(_write_latents), _read_latents),
}
