"""What a run has used: the currency in which methods are compared."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Usage:
    """Counts since the run began, resumes included.

    Attributes:
        questions: rollout groups, those included that a filter dropped: RL samples.
        rollout_tokens: response tokens that were sampled.
        demonstrations: demonstrations trained on, each pass of a batch counted once: SFT samples.
        demonstration_tokens: their response tokens, EOS included.
    """

    questions: int = 0
    rollout_tokens: int = 0
    demonstrations: int = 0
    demonstration_tokens: int = 0

    def plus(self, **counts: int) -> "Usage":
        """Add to the named counts."""
        return replace(self, **{name: getattr(self, name) + n for name, n in counts.items()})
