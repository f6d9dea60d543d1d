"""The keys of every training config, with their defaults.

Their types and ranges are in personax/training/config.py. "", 0 and () mean unset.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.base = "emoji"  # or a directory, a Hugging Face id, a single file
    config.loading = ConfigDict(
        {
            "variant": "",  # such as "fp16"
            "allow_pickle": False,
            "config": "",  # directory or id of a single file's configs
            "vae": "",  # directory, file or id of an autoencoder instead of the base's
            "param_dtype": "float32",  # of the frozen weights
        }
    )
    config.before = ()  # concept folders to train on top of
    config.seed = 0
    config.size = 0  # side of the training pictures in pixels; 0: the base's own

    config.method = ""
    config.method_args = ConfigDict()
    config.concept = ConfigDict(
        {
            "images": "dog",  # a bundled subject, or a folder of pictures
            "masks": "",  # a folder with a soft mask of the same name for each picture
            "placeholder": "<v1>",  # "": train an existing word
            "class_word": "",  # what the pictures show, "dog"; "": a subject's own
            "phrase": "{placeholder} {class_word}",  # the concept's words in prompts
            # A prompt, a set of templates (data/templates.py) or a .txt file.
            "prompt": "photo of a {}",
            # The token that V* starts from, for several concepts in turn; see
            # training/concept_text.py. These are diffusers'.
            "initial": "ktn+pll+ucd",
            "vectors": 1,
            "prior_prompt": "",  # "": the prompt with the class word alone
            "prior_images": "",  # a captioned folder or list
            # prompt; or own: of .txt or .caption files beside the pictures, of
            # metadata.jsonl or .csv, or the words of kohya's folders (10_sks dog).
            "captions": "prompt",
            "caption_column": "",  # of metadata; "": text or caption
        }
    )
    config.corpus = ""  # captions for Perfusion: world, world:10000, or a .txt file
    config.concepts_list = ""  # JSON list of concepts to train together

    config.data = ConfigDict(
        {
            "augment": "none",  # paper, compvis, huggingface
            "crop": "",  # centre, random, squash; "": the augmentation's own
            "flip": False,
            "words": "",  # append, prefix
            "shrink": (),  # range of the size as shares of the canvas, (0.4, 1.0)
            "caption_dropout": 0.0,
            "cut_mix": 0.0,  # probability of two concepts side by side
            "cut_mix_prompt": "a photo of a {} and a {}",
        }
    )
    # A large set in place of the concept's few pictures. Of `data` only caption_dropout
    # applies to it, and prior.source must be "".
    config.stream = ConfigDict(
        {
            # portraits:people, portraits:animals, scenes, folder:DIR (or a zip),
            # wds:DIR/{000..099}.tar, hf:DIR, tfds:NAME, cache:DIR; "" for
            # concept.images
            "source": "",
            "data_dir": "",  # of tfds; "": its default
            "split": "train",  # of tfds and hf
            "captions": "prompt",  # the concept's; own: the set's; none: empty
            "flip": False,
            "crop": "",  # centre, random, squash; "": centre, or a cache's own
            "buckets": 0,  # sizes by aspect, in multiples of this; 0: one size
            "workers": 0,  # processes that read and decode pictures
            "hint": "",  # canny: edges for a ControlNet
            "caption_column": "",  # of metadata, JSON or hf; "": text or caption
            "image_column": "",  # of hf; "": the first with pictures
        }
    )
    config.prior = ConfigDict(
        {
            "source": "",  # generated, world, folder, retrieved
            "count": 200,
            "weight": 1.0,
            "threshold": 0.85,
            "clip": "emoji",
            "steps": 50,
            "guidance": 6.0,
            "eta": 1.0,
            "batch": 8,
            "seed": 0,
            "cache": "~/.cache/personax/prior",
        }
    )

    config.optimizer = ConfigDict(
        {
            "name": "adamw",
            "learning_rate": 1e-5,
            # Of single parts; 0: learning_rate.
            "learning_rates": ConfigDict(
                {"weights": 0.0, "lora": 0.0, "text_encoder": 0.0, "tokens": 0.0}
            ),
            "scale_by_batch": False,  # multiply by the examples of a step
            "schedule": "constant",  # linear, cosine
            "warmup": 0,
            "clip": 1.0,  # norm of the gradient; 0: no clipping
            "weight_decay": 1e-2,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
        }
    )
    config.batch = 4  # of the concepts; a regularisation set adds as many
    config.accumulate = 1  # batches per step
    config.steps = 250
    config.ema_decay = 0.0  # of the average of theta; 0: none
    config.dtype = "float32"
    config.remat = "none"  # layer, block: less memory, slower
    config.mesh = ConfigDict(
        {
            "shape": ConfigDict({"data": -1, "fsdp": 1}),
            "base_rules": ((".*", "replicate"),),
            "theta_rules": ((".*", "replicate"),),
        }
    )

    config.log_every = 10
    config.save_every = 100
    config.keep = 2  # number of checkpoints
    config.preview = ConfigDict(
        {
            "prompts": ("photo of a {}",),
            "images": 4,
            "steps": 25,
            "guidance": 3.0,
            "unconditional": "own",  # or base: the unconditional term of GCFG
            "every": 0,  # 0: at the start and the end
        }
    )
    config.validation = ConfigDict({"every": 0, "count": 16, "images": ""})
    return config
