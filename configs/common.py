"""What every config has; a config states what differs."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.base = "emoji"  # or a directory, a Hugging Face id, a single file
    config.loading = ConfigDict(
        {
            "variant": "",  # such as "fp16"
            "allow_pickle": False,
            "config": "",  # directory or id with a single file's configs
            "param_dtype": "float32",  # what the frozen weights are kept in
        }
    )
    config.before = ()  # concept folders that this one is trained on top of
    config.seed = 0
    config.size = 0  # side of the training pictures; 0 is the base's own

    config.method = ""
    config.method_args = ConfigDict()
    config.concept = ConfigDict(
        {
            "images": "dog",  # a bundled subject, or a folder of pictures
            "masks": "",  # a folder with a soft mask of each, by its name
            "placeholder": "<v1>",  # "" to teach a word that exists
            "class_word": "dog",
            "phrase": "{placeholder} {class_word}",  # how prompts speak of it
            # A prompt, a set of templates (data/templates.py) or a .txt file.
            "prompt": "photo of a {}",
            # The token that V* starts from, of several concepts in turn; see
            # training/words.py. These are diffusers'; the CompVis release has others.
            "initial": "ktn+pll+ucd",
            "vectors": 1,
            "prior_prompt": "",  # "" is the prompt with the class word alone
            "prior_images": "",  # a captioned folder or list
        }
    )
    config.corpus = ""  # captions for Perfusion: world, world:10000, or a .txt file
    config.concepts_list = ""  # JSON list of concepts, taught together

    config.data = ConfigDict(
        {
            "augment": "none",  # paper, compvis, huggingface
            "crop": "",  # centre, random, squash; "" is the augmentation's own
            "flip": False,
            "words": "",  # append, prefix
            "shrink": (),  # shares of the canvas, (0.4, 1.0)
            "caption_dropout": 0.0,
            "cut_mix": 0.0,  # how often two concepts stand side by side
            "cut_mix_prompt": "a photo of a {} and a {}",
        }
    )
    # A large set in place of the concept's few pictures; then `data` says no more than
    # caption_dropout, and there is no prior.
    config.stream = ConfigDict(
        {
            # portraits:people, portraits:animals, scenes, folder:DIR (or a zip),
            # tfds:NAME, cache:DIR; "" for concept.images
            "source": "",
            "data_dir": "",  # of tfds; "" is its own
            "split": "train",  # of tfds
            "captions": "prompt",  # the concept's; own: the set's; none: the empty one
            "flip": False,
            "crop": "",  # centre, random, squash; "" is centre, or a cache's own
            "buckets": 0,  # sides in multiples of this, by aspect; 0: all of one size
            "workers": 0,  # processes that read and decode
            "hint": "",  # canny: edges, for a ControlNet
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
            # Of the parts that are to have their own; 0 is the common one.
            "learning_rates": ConfigDict(
                {"weights": 0.0, "lora": 0.0, "text_encoder": 0.0, "tokens": 0.0}
            ),
            "scale_by_batch": False,  # multiply by what one step sees
            "schedule": "constant",  # linear, cosine
            "warmup": 0,
            "clip": 1.0,  # the gradient's norm; 0 does not
            "weight_decay": 1e-2,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
        }
    )
    config.batch = 4  # of the concepts; a prior adds as many
    config.accumulate = 1  # batches per step
    config.steps = 250
    config.ema_decay = 0.0  # 0 keeps no average
    config.dtype = "float32"
    config.remat = "none"  # layer, block: less memory, more time
    config.mesh = ConfigDict(
        {
            "shape": ConfigDict({"data": -1, "fsdp": 1}),
            "base_rules": ((".*", "replicate"),),
            "theta_rules": ((".*", "replicate"),),
        }
    )

    config.log_every = 10
    config.save_every = 100
    config.keep = 2  # checkpoints
    config.preview = ConfigDict(
        {
            "prompts": ("photo of a {}",),
            "images": 4,
            "steps": 25,
            "guidance": 3.0,
            "unconditional": "own",  # or base: its empty text, as of GCFG
            "every": 0,  # 0: at the start and the end
        }
    )
    config.validation = ConfigDict({"every": 0, "count": 16, "images": ""})
    return config
