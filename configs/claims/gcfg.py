"""Fidelity against control, drift and its rectification (Cao et al. 2023).

    python -m experiments.claims.gcfg \
        --config configs/claims/gcfg.py --out runs/claims/gcfg \
        --config.run runs/concept_centric

The claims: a model without text, guided together with the base on the control prompt
over the base's unconditional term, is as faithful to the concept as a full fine-tune
and follows the prompt better (fig. 9); the two weights trade one for the other (fig.
8a); pictures of an ordinary customised model without a text drift to its training data,
and replacing its unconditional term by the base's rectifies its guidance (fig. 8b, 10,
app. B).

Fidelity against control is read from a run of benchmarks.concept_centric (hours; see
there): the rows' Fréchet distance, their share of pictures that show both the attribute
and a member of the set, and the w1 by w2 grid of its search. These points are omitted
without `run`. Measured here, on one set of portraits: the Fréchet distance, in the
embedded CLIP's features, of pictures without a text to portraits and to the base's from
other seeds, for ordinary models and for the base; and of pictures of the concept's text
at several weights, over the model's own unconditional term and over the base's. Models
are trained here for `train_steps`, unless `trained` names the folder of a run on the
same base. The distance is biased by the number of pictures, which is the same
throughout; errors are bootstrap over sampled pictures, not over trainings.

The claim holds if the customised models' pictures without a text are nearer to
portraits, and further from the base's, than the base's own, and if over the base's
unconditional term the distance to portraits is smaller than over their own at weights
above 1, each by more than the errors. Of the run's rows: the null-text model's distance
is at most the full fine-tune's and its share of both is larger.

With half of the pictures, --config.count 100, it took 10 minutes on one core.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.run = ""  # folder of benchmarks.concept_centric
    config.set = "people"  # or animals
    config.models = ("emoji_custom_diffusion", "emoji_dreambooth")  # of configs/
    config.trained = ""  # folder of such a run, for its models; "": train here
    config.train_steps = 150  # of 32 portraits; 0: those of configs/emoji_people.py
    config.weights = (1.0, 1.5, 2.5, 4.0)
    config.count = 200  # pictures of each kind
    config.steps = 12  # of DPM-Solver++(2M)
    config.bootstrap = 50
    return config
