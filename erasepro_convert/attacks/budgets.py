"""What each attack is allowed to spend, for whoever judges a result by how hard it was tried."""

from collections.abc import Mapping

from erasepro_convert.attacks import (
    completion,
    finetune,
    lora,
    merge,
    noise,
    prefix,
    redrawing,
    text_inversion,
    textual_inversion,
    token_search,
    weight_training,
    word_attacks,
)
from erasepro_convert.attacks.case import Effort
from erasepro_convert.attacks.names import Attack

Budget = Mapping[str, object]


def budgets(effort: Effort, *, draws: bool) -> dict[Attack, Budget]:
    """Return the budget of each attack.

    ``trial_seeds`` are the random seeds with which a search or a training is repeated; attacks
    without them have no chance in them but that of pictures.  ``draws`` says whether pictures are
    drawn: without them a search runs once.
    """
    trainings = {"trial_seeds": [*range(effort.seeds)]}
    searches = trainings if draws else {"trial_seeds": [0]}
    words = searches | {
        "steps": token_search.STEPS,
        "exchanges_per_step": token_search.TRIED,
        "prompts": word_attacks.PROMPTS,
    }
    weights = {"pictures_per_step": weight_training.BATCH}
    trained_lora = {"steps": lora.STEPS, "learning_rate": lora.RATE, **weights} if draws else {}
    return {
        "swap-te": {},
        "prefix": {"words_at_most": effort.candidates, "prompts": prefix.RANKING_PROMPTS},
        "tricks": {},
        "ring-a-bell": words | {"words": word_attacks.PHRASE},
        "mma": words | {"words": word_attacks.PHRASE},
        "unlearn-diff": words | {"words": word_attacks.PREFIX},
        "text-inversion": searches
        | {"steps": text_inversion.STEPS, "tokens": [*text_inversion.TOKENS]},
        "rece": {},
        "merge": {"shares_of_the_erased": [*merge.SHARES.values()]},
        "quantise": {},
        "lora": trainings | {"rank": lora.RANK, **trained_lora},
        "ti": trainings | {"steps": effort.steps, "pictures_per_step": textual_inversion.BATCH},
        "completion": {"shares_of_the_original": [*completion.SHARES]},
        "noise": {"factors": [*noise.FACTORS]},
        "img2img": {"strength": redrawing.STRENGTH},
        "inpaint": {"side": redrawing.MIDDLE},
        "finetune": trainings
        | weights
        | {
            "steps_on_others": finetune.OTHERS_STEPS,
            "steps_on_the_target": [*finetune.TARGET_STEPS],
            "learning_rate": finetune.RATE,
        },
    }
