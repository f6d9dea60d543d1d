"""Fidelity against control, drift and its rectification (Cao et al. 2023).

    python -m experiments.claims.gcfg \
        --config configs/claims/gcfg.py --out runs/claims/gcfg \
        --config.run runs/concept_centric

The claims: a model without text, guided over the original's unconditional term beside
the original on the control prompt, is as faithful to the concept as a full fine-tune
and follows the prompt better than it (fig. 9); both weights trade one for the other
(fig. 8a); an ordinary customised model's pictures without a text have drifted to what
it was taught, and with the original's unconditional term in the place of its own its
guidance is rectified (fig. 8b, 10, app. B).

Fidelity against control is read from a run of benchmarks.concept_centric (hours; see
there), the rows' Fréchet distance and their share of pictures that show both the wish
and someone of the set; w1 by w2 is that of its search. Without `run` these are left
out. Measured here, on one set of portraits: the Fréchet distance, in the embedded
CLIP's features, of pictures without a text to portraits and to the base's by other
seeds, of ordinary models and of the base; and of pictures of the concept's text at
several weights, over the model's own unconditional term and over the base's. Models are
taught here for `train_steps`, unless `trained` names the folder of a run on this very
base. The distance is biased by the number of pictures, equal throughout; errors are of
the bootstrap over pictures drawn, not over trainings.

It holds if the customised models' pictures without a text are nearer to portraits, and
further from the base's, than the base's own are, and if over the base's unconditional
term the distance to portraits is smaller than over their own at weights above 1, each
by more than the errors. Of the run's rows: the null-text model's distance is at most
the full fine-tune's and its share of both is above it.

With half of the pictures, --config.count 100, it took 10 minutes on one core.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.run = ""  # folder of benchmarks.concept_centric
    config.set = "people"  # or animals
    config.models = ("emoji_custom_diffusion", "emoji_dreambooth")  # and how they train
    config.trained = ""  # such a run's folder, for its trained models; "": train here
    config.train_steps = 150  # of 32 portraits; 0: as configs/emoji_people.py says
    config.weights = (1.0, 1.5, 2.5, 4.0)
    config.count = 200  # pictures of each kind
    config.steps = 12  # of DPM-Solver++(2M)
    config.bootstrap = 50
    return config
