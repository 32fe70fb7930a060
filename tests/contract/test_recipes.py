"""Every recipe at every scale composes, and each number has one home."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError

from mifo_ext.adapters.checks import configuration_problems
from mifo_ext.adapters.checks_rl import GROUP_ESTIMATORS
from mifo_ext.hydra_plugin import default_scale, names
from mifo_ext.settings_reader import parse_settings
from tests.support.runs import ROOT, composed, file_of, parent_of

RECIPES, SCALES = names("recipe"), names("scale")
GROUPS = ("recipe", "scale", "rl", "sft_loss", "demos")
KINDS = {"grpo": "rl", "mifo": "intervals", "sft_then_rl": "phases", "luffy": "mixed"}
"""A recipe of each kind; a group's words are the same to all of a kind."""


def files_of(group: str) -> list[str]:
    return [path.stem for path in sorted((ROOT / "configs" / group).glob("*.yaml"))]


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of one file, without Hydra's own."""
    for key, value in node.items():
        if not prefix and key in ("defaults", "hydra"):
            continue
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.fixture(scope="module")
def recipes() -> dict[str, DictConfig]:
    """Every recipe as its users get it without a scale."""
    return {recipe: composed(f"+recipe={recipe}") for recipe in RECIPES}


def test_the_recipes_of_the_method_are_there() -> None:
    assert set(RECIPES) == {
        *("grpo", "sft", "sft_then_rl", "rl_then_sft"),
        *("interleave", "interleave_entropy", "interleave_hold", "relift"),
        *("mifo", "mifo_no_history", "mifo_gradient_mask"),
        *("luffy", "srft", "hpt", "chord"),
    }
    assert {"cpu_tiny", "one_gpu", "math_1p5b", "math_7b"} <= set(SCALES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_composes_into_settings_that_can_run(
    recipe: str, recipes: dict[str, DictConfig]
) -> None:
    config = recipes[recipe]
    node = OmegaConf.to_container(config.interleave, resolve=True)

    settings = parse_settings(node, rollouts_per_question=config.actor_rollout_ref.rollout.n)  # type: ignore[arg-type]

    assert settings.recipe == recipe
    assert config.trainer.experiment_name == recipe
    assert config.trainer.v1.trainer_mode == "interleaved"
    assert config.hydra.callbacks.mifo._target_ == "mifo_ext.adapters.preflight.Preflight"


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_composes_with_a_recipe_and_resolves(scale: str) -> None:
    config = composed("+recipe=mifo", f"scale={scale}")

    assert config.hydra.runtime.choices["scale"] == scale
    for node in ("data", "actor_rollout_ref", "trainer", "reward", "ray_kwargs", "interleave"):
        OmegaConf.to_container(config[node], resolve=True)
    worker = OmegaConf.to_container(config.actor_rollout_ref, resolve=True)
    assert worker["interleave"]["recipe"] == "mifo"  # type: ignore[index, call-overload]


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_ray_hands_to_processes_is_literal(
    recipe: str, recipes: dict[str, DictConfig]
) -> None:
    environment = recipes[recipe].ray_kwargs.ray_init.runtime_env.env_vars
    values = OmegaConf.to_container(environment, resolve=False)

    assert values["VERL_USE_EXTERNAL_MODULES"] == "mifo_ext.adapters.register"  # type: ignore
    assert values["VERL_ENGINE_VENDOR"] == "mifo"  # type: ignore[index, call-overload]
    assert all(isinstance(v, str) and "${" not in v for v in values.values())  # type: ignore


def test_a_scale_is_chosen_without_a_plus_and_one_key_without_a_scale() -> None:
    config = composed("+recipe=mifo", "scale=one_gpu", "data.train_batch_size=7")

    assert config.trainer.n_gpus_per_node == 1
    assert config.actor_rollout_ref.actor.optim.lr == 1e-6
    assert config.data.train_batch_size == 7


def test_a_machine_without_an_accelerator_takes_cpu_tiny(
    recipes: dict[str, DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from verl.plugin.platform import get_platform

    if get_platform().device_name == "cpu":
        assert default_scale() == "cpu_tiny"
        assert recipes["mifo"].hydra.runtime.choices["scale"] == "cpu_tiny"
        assert recipes["mifo"].trainer.device == "cpu"
    else:
        assert default_scale() in ("one_gpu", "math_7b")


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(MissingConfigException, match="Could not find 'recipe/mifoo'") as error:
        composed("+recipe=mifoo")

    for recipe in RECIPES:
        assert f"\t{recipe}" in str(error.value)


def test_a_mistyped_key_of_the_recipe_is_refused() -> None:
    with pytest.raises(ConfigCompositionException, match="bufer_size") as error:
        composed("+recipe=mifo", "interleave.bufer_size=8")
    assert isinstance(error.value.__cause__, ConfigAttributeError)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(GROUPS, 2)))
def test_groups_set_different_keys(one: str, other: str) -> None:
    keys, others = (
        {key for name in files_of(group) for key, _ in leaves(file_of(group, name))}
        for group in (one, other)
    )

    assert keys
    assert not keys & others
    # Nor a whole node on one side and a part of it on the other.
    for key in keys:
        assert not [theirs for theirs in others if f"{theirs}.".startswith(f"{key}.")]
        assert not [theirs for theirs in others if f"{key}.".startswith(f"{theirs}.")]


def kind_of(recipe: str) -> str:
    return str(KINDS.get(recipe) or composed(f"+recipe={recipe}").interleave.kind)


# A recipe of each kind takes every word in the fast tests, the others one of each group.
@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        pytest.param(recipe, word, marks=() if fast else pytest.mark.slow)
        for recipe in RECIPES
        for word in names("rl")
        for fast in [recipe in KINDS or word == "rloo"]
    ],
)
def test_a_recipe_takes_every_rl_algorithm_that_its_kind_can_use(recipe: str, word: str) -> None:
    config = composed(f"+recipe={recipe}", f"rl={word}")

    # What another algorithm set, the recipe's own included, is gone: the file's values are there.
    values = dict(leaves(OmegaConf.to_container(config, resolve=False)))  # type: ignore[arg-type]
    for key, value in leaves(file_of("rl", word)):
        assert values[key] == value, key
    bounds = config.actor_rollout_ref.actor.clip_ratio_high
    assert (bounds > 1) == (word == "grpo_unclipped")
    expected = []
    if config.interleave.kind == "mixed" and config.algorithm.adv_estimator not in GROUP_ESTIMATORS:
        expected = ["`algorithm.adv_estimator`"]
    if (recipe, word) == ("sft", "ppo"):
        expected = ["`critic.enable`"]
    assert [problem.split(" ")[0] for problem in configuration_problems(config)] == expected


@pytest.mark.parametrize(
    ("group", "word", "more"),
    [
        ("sft_loss", "nll", ()),
        ("sft_loss", "dft", ()),
        ("demos", "dataset", ()),
        ("demos", "file", ("interleave.demonstrations.file=solutions.jsonl",)),
        (
            "demos",
            "server",
            (
                "interleave.demonstrations.server.url=http://teacher:8000/v1",
                "interleave.demonstrations.server.model=large",
            ),
        ),
    ],
)
@pytest.mark.parametrize(
    "recipe",
    [pytest.param(one, marks=() if one in KINDS else pytest.mark.slow) for one in RECIPES],
)
def test_a_recipe_takes_the_words_that_its_kind_knows_and_no_other(
    recipe: str, group: str, word: str, more: tuple[str, ...]
) -> None:
    known = {"rl": (), "mixed": ("demos",)}.get(kind_of(recipe), ("sft_loss", "demos"))
    if group not in known:
        with pytest.raises(ConfigCompositionException, match=f"Could not override '{group}'"):
            composed(f"+recipe={recipe}", f"{group}={word}", *more)
        return

    config = composed(f"+recipe={recipe}", f"{group}={word}", *more)

    assert configuration_problems(config) == []
    node = (
        config.interleave.sft.loss
        if group == "sft_loss"
        else config.interleave.demonstrations.source
    )
    assert node == word


def test_every_word_of_a_group_is_tried() -> None:
    assert [*names("sft_loss"), *names("demos")] == ["dft", "nll", "dataset", "file", "server"]
    assert {kind_of(recipe) for recipe in RECIPES} == set(KINDS.values())


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if parent_of(recipe)])
def test_a_recipe_holds_only_what_differs_from_its_parent(
    recipe: str, recipes: dict[str, DictConfig]
) -> None:
    parent = recipes[str(parent_of(recipe))]

    for key, value in leaves(file_of("recipe", recipe)):
        # A key that is new here may be null: it is declared, so that the command line may set it.
        known = OmegaConf.select(parent, key, default="new")
        assert known != value, f"{key} is the parent's already"


def test_the_method_has_the_papers_values(recipes: dict[str, DictConfig]) -> None:
    mifo = recipes["mifo"].interleave

    assert mifo.hard_at_most == 1 / 8  # p
    assert mifo.buffer_size == 64  # S
    assert mifo.sft.fraction == 0.2  # rho
    assert mifo.hold.fraction == 0.5  # k
    assert mifo.hold.decay == 0.5  # alpha
    assert recipes["mifo_no_history"].interleave.hold.decay == 0.0
    assert (mifo.sft.tokens, mifo.hold.entries) == ("high_entropy", "moved_most")
    assert mifo.sft.learning_rate_ratio == 1.0
    assert mifo.sft.normalise == "full_length"


def test_rl_is_the_papers_grpo(recipes: dict[str, DictConfig]) -> None:
    config = recipes["grpo"]

    assert config.actor_rollout_ref.rollout.n == 8
    assert config.actor_rollout_ref.rollout.temperature == 1.0
    assert config.actor_rollout_ref.actor.entropy_coeff == 0.001
    assert not config.algorithm.norm_adv_by_std_in_grpo
    assert not config.algorithm.use_kl_in_reward
    assert not config.actor_rollout_ref.actor.use_kl_loss
    # A null scale factor would be the padded width of a micro-batch.
    assert config.actor_rollout_ref.actor.loss_agg_mode == "seq-mean-token-sum-norm"
    assert config.actor_rollout_ref.actor.loss_scale_factor == config.data.max_response_length


@pytest.mark.parametrize("scale", ["math_1p5b", "math_7b"])
def test_the_papers_scales_have_its_batches(scale: str) -> None:
    config = composed("+recipe=mifo", f"scale={scale}")

    assert config.data.train_batch_size == 128
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size == 64
    assert config.actor_rollout_ref.actor.optim.lr == 1e-6
    assert config.data.max_response_length == 8192
    assert config.trainer.total_epochs == 3
