"""Defaults of every evaluation; the other configs override them."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.base = "emoji"  # or a directory, a Hugging Face id, a single file
    config.loading = ConfigDict(
        {
            "variant": "",  # such as "fp16"
            "allow_pickle": False,
            "config": "",  # directory or id with a single file's configs
        }
    )
    # emoji, dreambooth:DIR, custom_concept_101:DIR, custom_diffusion:DIR, folders:DIR:
    # see data/published.py.
    config.subjects = ConfigDict({"source": "emoji", "names": ()})  # (): all
    config.singles = True  # False: pairs only
    config.pairs = ()  # (("dog", "cat"), …); (): the set's own
    # Templates with {} for the subject, {0} and {1} for a pair; (): the set's own.
    config.prompts = ConfigDict({"live": (), "object": (), "pair": ()})
    config.images = 4  # per prompt
    config.seed = 0  # the pictures of prompt i have the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    # The methods: {row: {config: a config file of personax.train, changes: overrides of
    # its keys, together: overrides `together` below, terms: guidance terms such as
    # ("concept@1.5:", "2.5:{}") instead of the prompt alone}}.
    config.rows = ConfigDict(sort_keys=False)
    # Methods for pairs: {row: {of: a row above, way: how its concepts are combined}}:
    # joint (trained together), merge (in closed form) or add (side by side).
    config.pair_rows = ConfigDict(sort_keys=False)
    config.together = 4  # subjects trained at once, by vmap over theta
    # Metrics: folders of networks, emoji for the embedded ones, "" for none.
    config.judges = ConfigDict(
        {
            "clip": "emoji",
            "classifier": "emoji",  # of class, place, accessory, style, tint
            "captions": "scenes",  # for the Fisher divergence; or a captioned folder
            "dino": "",
            "blip": "",
            "blip2": "",
            "tifa": "",  # a file of questions; requires `vqa`
            "inception": "",  # a file; KID and FID of prompts without the concept
        }
    )
    config.real = ""  # real pictures for KID and FID, a folder per class word
    config.vqa = ""  # "package.module:function"; see personax/metrics/tifa.py
    config.merge_captions = ""  # text file for merges; "": captions of the emoji world
    config.bootstrap = 200  # rounds for standard errors
    config.report = ConfigDict(
        {
            "title": "",
            "images": 4,  # of each prompt in report.html
            # False: small pictures are compressed to a fifth of the bytes.
            "lossless": True,
            # Columns of table.tex; (): all.
            "printed": (
                "clip_i",
                "dino_i",
                "clip_t",
                "blip_itc",
                "tifa",
                "asked",
                "same",
                "kid",
                "fisher",
                "drift",
                "numbers",
                "seconds",
            ),
        }
    )
    return config
