"""What every evaluation has; a config states what differs."""

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
    # Who is taught: emoji, dreambooth:DIR, custom_concept_101:DIR, custom_diffusion:DIR
    # or folders:DIR; see data/published.py.
    config.subjects = ConfigDict({"source": "emoji", "names": ()})  # () is all
    config.singles = True  # False: pairs alone
    config.pairs = ()  # (("dog", "cat"), …); () are the set's own
    # Templates: {} is the subject, {0} and {1} those of a pair. A set that comes with
    # prompts of its own is asked those where these are ().
    config.prompts = ConfigDict({"live": (), "object": (), "pair": ()})
    config.images = 4  # of each prompt
    config.seed = 0  # the i-th prompt's pictures have the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    # What is compared: {row: {config: a file of personax.train's, changes: what differs
    # in it, together: if not so many at once, terms: guidances to draw with, such as
    # ("concept@1.5:", "2.5:{}"), if not its prompt alone}}.
    config.rows = ConfigDict(sort_keys=False)
    # And on pairs: {row: {of: the row that teaches, way: how both come together}}, by
    # joint training, a merge in closed form, or add, side by side.
    config.pair_rows = ConfigDict(sort_keys=False)
    config.together = 4  # subjects that are taught at once, by vmap over theta
    # What scores: folders of networks, emoji for the package's own, "" for none.
    config.judges = ConfigDict(
        {
            "clip": "emoji",
            "classifier": "emoji",  # of class, place, accessory, style, tint
            "captions": "scenes",  # of others, for the Fisher divergence: a folder
            "dino": "",
            "blip": "",
            "blip2": "",
            "tifa": "",  # a file of questions, which `vqa` answers
            "inception": "",  # a file, for KID and FID of the class without the concept
        }
    )
    config.real = ""  # against the real pictures here, a folder for each class word
    config.vqa = ""  # "package.module:function"; see personax/metrics/tifa.py
    config.merge_captions = ""  # text that a merge keeps; "" is the emoji world's
    config.bootstrap = 200  # resamplings for a standard error
    config.report = ConfigDict(
        {
            "title": "",
            "images": 4,  # of a prompt on report.html; the files have all
            # False: small pictures in a fifth of the bytes, their colours a little off.
            "lossless": True,
            # The columns of table.tex, which a page has to hold; () are all.
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
