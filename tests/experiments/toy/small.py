"""A toy config that takes seconds: the same task, a smaller network, few steps."""

from configs.toy import four_peaks


def small_config():
    config = four_peaks.get_config()
    config.network.width, config.network.layers = 32, 2
    config.pretraining.steps, config.pretraining.batch = 600, 128
    config.teaching.rates = (1e-3, 1e-2)
    config.teaching.reference_step = 10
    config.teaching.steps = (0, 10, 20)
    config.teaching.batch = 16
    config.measures.points = 128
    config.measures.samples = 50
    config.measures.samples_of_others = 25
    config.measures.sampler_steps = 8
    return config
