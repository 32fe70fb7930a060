"""Demonstrations among the rollouts: session 0 of a question answers with its demonstration."""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from mifo_ext.adapters.trainer_names import (
    DEMONSTRATION,
    DEMONSTRATION_AGENT,
    DEMONSTRATION_IDS,
)


@register(DEMONSTRATION_AGENT)
class DemonstrationAgentLoop(SingleTurnAgentLoop):  # type: ignore[misc]
    """verl's single-turn loop, which gives out the demonstration instead of sampling once."""

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """Answer one session of a question.

        Nothing is generated for a demonstration. It is graded like every response, and trained on
        under the question's own prompt, tokenised as the other sessions tokenise it.

        Args:
            sampling_params: of the rollout server.
            kwargs: the question's columns, its `session_id` and `global_steps`.
        """
        ids = list(kwargs.get(DEMONSTRATION_IDS, ()))
        if kwargs["session_id"] != 0 or not ids:
            return await super().run(sampling_params, **kwargs)
        prompt_ids = await self.ct_build_initial_tokens(list(kwargs["raw_prompt"]))
        # The version of the weights that the other sessions are sampled from.
        version = int(kwargs["global_steps"]) - 1
        return AgentLoopOutput(
            prompt_ids=prompt_ids,
            response_ids=ids[: self.response_length],
            response_mask=[1] * min(len(ids), self.response_length),
            # verl reads this field of every row or of none; no policy sampled these tokens, and
            # the actor's own values take this place before anything is made of it.
            response_logprobs=(
                [0.0] * min(len(ids), self.response_length)
                if self.rollout_config.calculate_log_probs
                else None
            ),
            # verl reads all fields of a batch's rows: each must have what the other sessions have.
            multi_modal_data={},
            mm_processor_kwargs=self._get_mm_processor_kwargs(None),
            mm_processor_output=None,
            routed_experts=None,
            num_turns=2,
            metrics={"num_preempted": -1},
            extra_fields={
                DEMONSTRATION: True,
                "min_global_steps": version,
                "max_global_steps": version,
                "turn_scores": [],
                "tool_rewards": [],
            },
        )
