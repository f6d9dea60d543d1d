from ml_collections import ConfigDict
from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "dreambooth"
    return config
